"""The scorecard says what was not tried."""

import pytest

from tests.proof.conftest import Score


def test_a_proof_that_cannot_be_tried_here_is_skipped_and_the_scorecard_says_why() -> None:
    score = Score("a full disk")
    score.expect(["there is no room"])
    with pytest.raises(pytest.skip.Exception, match="nothing can be mounted"):
        score.cannot_be_tried("nothing can be mounted")
    assert [*score.lines()] == ["a full disk", "    not tried: nothing can be mounted"]
