import pytest
from contextpilot_hooks.ids import find_request_id, is_request_id

ID = "cp-0123456789abcdef01234567"


@pytest.mark.parametrize(
    "text",
    [
        ID,
        f"chatcmpl-{ID}",
        f"chatcmpl-{ID}-a7f079c1",
        f"0_chatcmpl-{ID}-9b94fa75",
        f"cmpl-{ID}-1-b5d4f3f5",
        f"{ID}_1",
        f"x cp-12 {ID}",
        f"chatcmpl-cp-{'f' * 24}-{ID}-a7f079c1",  # a client's own, and that of the proxy behind it
    ],
)
def test_found_inside_what_engines_add(text):
    assert find_request_id(text) == ID


@pytest.mark.parametrize("text", ["", "chatcmpl-1", ID[:-1], ID + "a", ID.upper(), None, 7, b"cp-"])
def test_not_found(text):
    assert find_request_id(text) is None


def test_is_the_whole_text():
    assert is_request_id(ID)
    assert not is_request_id(ID + "_1")
    assert not is_request_id(None)
