"""What the report says of a method equals what the method's own class says."""

from evaluation.report import definitions
from latticebench.quantizers import documentation, registry


def test_every_method_is_read_as_it_is():
    for name in registry.available():
        cls, found = registry.method(name), definitions.find(name)
        if not cls.__module__.startswith("latticebench."):
            continue
        assert (found.title, found.paper, found.year, found.url) == (cls.title, *cls.reference), name
        parameters = [(p.name, p.meaning) for p in documentation.parameters(cls)]
        assert [(p.name, p.meaning.rstrip(".")) for p in found.parameters] == parameters, name
        assert found.equations and found.summary, name


def test_a_users_file_is_read_without_running_it(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        '"""q = z, Eq. 1."""\nimport nothing_of_that_name\n\nPAPER = Reference("A paper", 2026, "https://example.org")\n\n\n'
        'class Mine(VQ):\n    """As vq."""\n\n    name = "mine"\n    title = "Mine"\n    reference = PAPER\n'
    )
    found = definitions.find("mine", file)
    assert (found.title, found.paper, found.equations) == ("Mine", "A paper", "q = z, Eq. 1.")
    assert "codebook_size" in [parameter.name for parameter in found.parameters]


def test_an_unknown_method_is_bare():
    assert definitions.find("no-such-method").parameters == ()
