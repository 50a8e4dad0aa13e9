"""Assets come from a checked mirror, and a damaged file is named."""

import pytest

from pipeline.cli.assets import copy_from_mirror
from pipeline.errors import PipelineError
from pipeline.io import file_sha256


@pytest.fixture
def mirror(tmp_path):
    folder = tmp_path / "mirror"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "x.bin").write_bytes(b"weights")
    (folder / "MANIFEST.csv").write_text(
        f"file,bytes,sha256,source,licence,what\na/x.bin,7,{file_sha256(folder / 'a/x.bin')},somewhere official,MIT,test\n"
    )
    return folder


def test_files_arrive_checked_and_twice_is_once(mirror, tmp_path):
    target = tmp_path / "assets"
    assert copy_from_mirror(mirror, target) == ["a/x.bin"]
    assert (target / "a/x.bin").read_bytes() == b"weights"
    assert copy_from_mirror(mirror, target) == ["a/x.bin"]


@pytest.mark.parametrize(
    ("damage", "word"), [(lambda path: path.write_bytes(b"other"), "damaged"), (lambda path: path.unlink(), "missing")]
)
def test_a_bad_mirror_names_file_and_source(mirror, tmp_path, damage, word):
    damage(mirror / "a" / "x.bin")
    with pytest.raises(PipelineError, match=word) as error:
        copy_from_mirror(mirror, tmp_path / "assets")
    assert "somewhere official" in error.value.hint
