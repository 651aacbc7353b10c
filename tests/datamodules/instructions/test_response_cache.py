"""The cache of answers: written at once, found again, and robust to a truncated last line."""

from pathlib import Path

from datamodules.instructions.response_cache import Response, ResponseCache, key_of

ONE, TWO = Response("Yes.\nNo.", 10, 2), Response("ä", 0, 0)


def test_answers_are_found_again(tmp_path: Path) -> None:
    answers = ResponseCache(tmp_path / "a.jsonl")
    assert "1" not in answers
    answers.add("1", ONE)
    answers.add("2", TWO)
    again = ResponseCache(tmp_path / "a.jsonl")
    assert len(again) == 2
    assert (again["1"], again["2"]) == (ONE, TWO)


def test_a_line_that_was_cut_is_passed_over_and_the_next_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    answers = ResponseCache(file)
    answers.add("1", ONE)
    answers.add("2", TWO)
    file.write_bytes(file.read_bytes()[:-9])
    cut = ResponseCache(file)
    assert "1" in cut
    assert "2" not in cut
    cut.add("3", TWO)
    again = ResponseCache(file)
    assert ("1" in again, "2" in again, again["3"]) == (True, False, TWO)


def test_what_is_no_answer_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('[]\n{"key": "1"}\n\xff\n{"key": "1", "text": "x", "tokens_in": null, "tokens_out": 1}\n')
    assert len(ResponseCache(file)) == 0


def test_a_key_tells_requests_apart() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "a"}]}
    key = key_of("http://x/v1", body)
    assert key == key_of("http://x/v1/", dict(reversed(list(body.items()))))
    others = [key_of("http://y/v1", body), key_of("http://x/v1", body | {"model": "n"})]
    others.append(key_of("http://x/v1", body | {"temperature": 0.5}))
    assert len({key, *others}) == 4
