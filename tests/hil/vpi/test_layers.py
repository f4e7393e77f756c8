"""Layers: built once, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.vpi.layers import KEPT, BuildError, cache_folder, key_of, layer


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YUKIMI_VPI_CACHE", str(tmp_path / "cache"))


def quiet(_line: str) -> None:
    pass


def write_a_file(folder: Path) -> None:
    (folder / "file").write_text("built")


def test_a_layer_is_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    place = layer("kernel", "1", write_a_file, say=quiet)
    assert (place / "file").read_text() == "built"

    def must_not(_folder: Path) -> None:
        pytest.fail("built again")

    assert layer("kernel", "1", must_not, say=quiet) == place


def test_a_layer_that_could_not_be_finished_leaves_nothing() -> None:
    def give_up(folder: Path) -> None:
        write_a_file(folder)
        raise BuildError("no network")

    with pytest.raises(BuildError):
        layer("kernel", "1", give_up, say=quiet)
    assert list(cache_folder().glob("*kernel-*")) == []
    assert (layer("kernel", "1", write_a_file, say=quiet) / "file").exists()


def test_old_layers_of_a_kind_go_and_others_stay() -> None:
    layer("debian", "1", write_a_file, say=quiet)
    for number in range(KEPT + 2):
        layer("product", str(number), write_a_file, say=quiet)
    names = sorted(place.name for place in cache_folder().glob("[a-z]*"))
    assert names == ["debian-1", *(f"product-{number}" for number in range(2, KEPT + 2))]


def test_the_key_changes_with_a_files_content_and_its_name(tmp_path: Path) -> None:
    room = tmp_path / "room"
    room.mkdir()
    (room / "a.py").write_text("1")
    first = key_of(room, "text")
    assert key_of(room, "text") == first
    (room / "a.py").write_text("2")
    second = key_of(room, "text")
    (room / "a.py").rename(room / "b.py")
    assert len({first, second, key_of(room, "text"), key_of(room)}) == 4
