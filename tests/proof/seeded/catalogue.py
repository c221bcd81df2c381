"""All seeded defects."""

from tests.proof.seeded import (
    in_deaths,
    in_edits,
    in_lives,
    in_mails,
    in_matching,
    in_salesforce,
    in_the_store,
    in_values,
    in_windows,
)
from tests.proof.seeded.defect import Defect

DEFECTS: list[Defect] = [
    *in_matching.DEFECTS,
    *in_the_store.DEFECTS,
    *in_lives.DEFECTS,
    *in_windows.DEFECTS,
    *in_deaths.DEFECTS,
    *in_salesforce.DEFECTS,
    *in_edits.DEFECTS,
    *in_values.DEFECTS,
    *in_mails.DEFECTS,
]
