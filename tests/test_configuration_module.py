"""A method of the user's own is named by its content: an edited file is another subject."""

from latticebench import configuration

METHOD = """
from latticebench.quantizers.identity import Identity
from latticebench.quantizers import register

@register
class Own(Identity):
    name = "own-{stem}"
"""


def test_an_edited_method_file_is_another_subject(tmp_path):
    (tmp_path / "own.py").write_text(METHOD.format(stem=tmp_path.name))
    (tmp_path / "c.yaml").write_text(
        "name: t\ndata: {source: bundled-photographs}\nquantizers:\n  own: {module: own.py}\n  i: {method: identity}\n"
    )
    own, other = configuration.load(tmp_path / "c.yaml").subjects()
    (tmp_path / "own.py").write_text((tmp_path / "own.py").read_text() + "# edited\n")
    edited, unmoved = configuration.load(tmp_path / "c.yaml").subjects()
    assert own.id != edited.id
    assert other.id == unmoved.id
