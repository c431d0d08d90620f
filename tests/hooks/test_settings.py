import pytest
from contextpilot_hooks.settings import Settings, engine_name, read_bound


def test_address_and_token():
    environ = {
        "CONTEXTPILOT_INDEX_URL": "https://index.local/api/",
        "CONTEXTPILOT_INDEX_TOKEN": "secret",
    }
    assert Settings.from_environ(environ) == (True, "index.local", 443, "/api", "secret")
    environ = {"CONTEXTPILOT_INDEX_URL": "http://127.0.0.1:8765"}
    assert Settings.from_environ(environ) == (False, "127.0.0.1", 8765, "", "")


@pytest.mark.parametrize("url", ["", "127.0.0.1:8765", "ftp://x", "http://", "http://h:port"])
def test_no_address(url):
    with pytest.raises(ValueError, match="CONTEXTPILOT_INDEX_URL"):
        Settings.from_environ({"CONTEXTPILOT_INDEX_URL": url})


def test_names():
    given = {"CONTEXTPILOT_ENGINE_ID": "east-1"}
    assert engine_name("vllm", None, given, []) == "east-1"
    assert engine_name("vllm", 2, given, []) == "east-1-dp2"
    assert engine_name("vllm", None, {}, ["serve", "m", "--port", "30200"]).endswith("-30200")
    assert engine_name("sglang", 0, {}, ["--port=30001"]).endswith("-30001-dp0")
    assert engine_name("vllm", None, {}, ["serve", "--port"]).startswith("vllm-")


def test_bounds(caplog):
    name = "CONTEXTPILOT_HOOK_MAX_BLOCKS"
    assert read_bound("BLOCKS", 7, {}) == 7
    assert read_bound("BLOCKS", 7, {name: " 12 "}) == 12
    assert not caplog.records
    for bad in ("0", "-1", "1e6", "many", "\u0663", "9" * 5000):
        caplog.clear()
        assert read_bound("BLOCKS", 7, {name: bad}) == 7
        [record] = caplog.records
        assert name in record.getMessage()
        assert "stays at 7" in record.getMessage()


def test_a_token_that_no_header_holds_is_refused_and_not_shown() -> None:
    environ = {
        "CONTEXTPILOT_INDEX_URL": "http://index:1",
        "CONTEXTPILOT_INDEX_TOKEN": "secret\nX: y",
    }
    with pytest.raises(ValueError, match="one line") as error:
        Settings.from_environ(environ)
    assert "secret" not in str(error.value)
