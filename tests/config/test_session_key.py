"""The key that signs session cookies: the same for all processes, and readable by its owner only."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from config.session_key import session_keys
from config.settings import Settings


def test_processes_that_start_at_the_same_time_have_one_key(tmp_path: Path):
    settings = Settings(data_dir=str(tmp_path / "var"))
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: session_keys(settings), range(16)))
    assert keys == [keys[0]] * 16
    (file,) = (tmp_path / "var").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert keys[0] == [file.read_bytes()]
    assert len(file.read_bytes()) == 32


def test_a_secret_key_is_not_the_key_itself_and_needs_no_file(tmp_path: Path):
    new, old = "a-secret-key-for-tests", "the-secret-key-before"
    keys = session_keys(Settings(data_dir=str(tmp_path), secret_key=new, secret_key_old=old))
    assert len(set(keys)) == 2
    assert not {new.encode(), old.encode()} & set(keys)
    assert keys == session_keys(Settings(data_dir="/nowhere", secret_key=new, secret_key_old=old))
    assert list(tmp_path.iterdir()) == []
