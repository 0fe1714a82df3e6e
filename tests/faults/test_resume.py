"""Of many processes that answer a question, one goes on; the quick version of `tests.faults.resume`."""

from tests.faults.resume import resume_all


async def test_of_many_processes_that_answer_a_question_one_goes_on(database_url: str) -> None:
    """Four processes answer the same 40 questions; the module's long version has eight, and 300 questions."""
    report = await resume_all(database_url, processes=4, checkpoints=40)
    assert report.errors == []
    assert report.unanswered == []
    assert report.doubles == []
    assert report.wrong == []
    assert (report.attempts, report.winners, report.claimed) == (160, 40, 120)
