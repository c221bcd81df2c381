"""Small worlds that judge one mutant of `make mutate`: a disagreement is enough, so none is made smaller."""

from random import Random

import pytest

from tests.contact_sync.agreement import judge_together
from tests.contact_sync.worlds import batch_of_worlds


@pytest.mark.parametrize("number", range(10))
def test_section_4_outcome_code_holders_and_final_store_agree_with_the_specification(number: int) -> None:
    judge_together(batch_of_worlds(number, 30), Random(number))
