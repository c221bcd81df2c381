"""All seeded defects."""

from tests.proof.seeded import in_matching, in_runs, in_the_store, in_values
from tests.proof.seeded.defect import Defect

DEFECTS: list[Defect] = [*in_matching.DEFECTS, *in_the_store.DEFECTS, *in_runs.DEFECTS, *in_values.DEFECTS]
