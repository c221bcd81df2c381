"""The product and the executable specification of section 4 agree on every small world, and the invariants hold.

A fixed part of what `make prove` does at length.
"""

from collections import Counter
from random import Random

from tests.contact_sync.agreement import READ_EARLIER, agree
from tests.contact_sync.interesting_cases import CASES
from tests.contact_sync.worlds import batch_of_worlds


def test_section_4_outcome_code_holders_and_final_store_agree_on_two_thousand_worlds() -> None:
    met: Counter[str] = Counter()
    for number in range(40):
        met += agree(batch_of_worlds(number, 50), Random(number))
    never = [case for case in [*CASES, *READ_EARLIER] if not met[case]]
    assert not never, f"these never occurred: {never}"
