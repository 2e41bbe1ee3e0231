"""Names that people give to folders arrive as they are, whatever Hydra's grammar thinks of them."""

from __future__ import annotations

from pathlib import Path

import hydra
import pytest
from omegaconf import DictConfig, OmegaConf

from src.cli.overrides import as_typed, quoted, readable, value_of, without

NAMES = [
    "a", "Müller", "北京", "a=b", "[x", "x]y", "(y)", "photo (1).png", "a,b", "{z}", "a;b", "a#b", "a #b", "$HOME",
    "it's", 'q"q', "'", '"', "~t", "a&b", " lead", "trail ", "new\nline", "-x", "1e5", "1_000", "true", "nan", "007",
    "a\\b", "end\\", "\\'", "\udcff", "a$b", "a:b", "a: b", "glob(*)", "str(a)", "tab\t", "?", "*", "!x", "%d", "@",
    "a+b", "| x", "[x]", "'a'b", '"a"b', "ckpt", "c", "k", "=", ",", "a\\=b", "\\", "[a]b", "nulls", "${",
    "a${b", "${}",
]  # fmt: skip
ALSO_REFERENCES = ["a${b}c", "\\${b}", "\\\\${x}\\"]
PATHS = ["ckpt", "source", "out", "init_from", "resume", "run", "compare", "report", "data.root", "data.image_dir"]


@pytest.fixture
def compose(tmp_path: Path):
    """Composes a config that has every option of ``PATHS`` from overrides."""
    OmegaConf.save(OmegaConf.create({name: None for name in PATHS if "." not in name} | {
        "data": {"root": None, "image_dir": None}, "lr": 0.1, "name": None, "options": [], "trials": []}),
        tmp_path / "root.yaml",
    )  # fmt: skip

    def call(*overrides: str) -> DictConfig:
        with hydra.initialize_config_dir(str(tmp_path), version_base="1.3"):
            return hydra.compose("root", list(overrides))

    return call


@pytest.mark.parametrize("name", [name for name in NAMES if "${" not in name], ids=ascii)
def test_every_name_is_a_path(compose, name: str) -> None:
    given = [f"ckpt={name}", f"data.root=/data/{name}"]
    cfg = compose(*readable(given))
    assert (cfg.ckpt, cfg.data.root) == (name, f"/data/{name}")
    assert (value_of("ckpt", given), value_of("data.root", given)) == (name, f"/data/{name}")


@pytest.mark.parametrize("option", PATHS)
def test_every_option_of_a_path_takes_names_that_look_like_something_else(compose, option: str) -> None:
    for name in ("1e5", "a,b", "true", "str(a)", "a\\=b"):
        assert OmegaConf.select(compose(*readable([f"{option}={name}"])), option) == name


@pytest.mark.parametrize("name", [*NAMES, *ALSO_REFERENCES], ids=ascii)
def test_quoted_is_the_text_to_the_letter(compose, name: str) -> None:
    item = quoted("out", name)
    assert readable([item]) == [item]
    cfg = compose(item, quoted("data.root", Path("/x") / name))
    assert (cfg.out, cfg.data.root) == (name, f"/x/{name}")


def test_lists_of_paths(compose) -> None:
    items = ["compare=[/data/Müller/a b, it's,1e5,null,北京=1]", 'data.root=["a,b", "c]"]']
    cfg = compose(*readable(items))
    assert cfg.compare == ["/data/Müller/a b", "it's", "1e5", "null", "北京=1"]
    assert cfg.data.root == ["a,b", "c]"]


def test_what_hydra_reads_stays_as_it_is() -> None:
    items = [
        "lr=1e-3", "~lr", "+data.x=[1, 2]", "model/scales=max", "out=null", "out='a b'", 'ckpt="it"', "out=", "--cfg",
        "job", "data.classes={a: [1,2,3], b: [4,5,6]}", "a_word", "trainer.max_epochs=3", "~data.root", "lr=1,2",
        "=3", "Ü=3",
    ]  # fmt: skip
    assert readable(items) == items


def test_other_values_that_hydra_cannot_read_are_text_or_yaml(compose) -> None:
    cfg = compose(
        *readable(
            [
                "name=Müller, run #3",
                "trials=[{name: a, set: [model=x, optimizer.lr=0.1]}]",
                "options=[a=b, 1e-3]",
            ]
        )
    )
    assert cfg.name == "Müller, run #3"
    assert cfg.trials == [{"name": "a", "set": ["model=x", "optimizer.lr=0.1"]}]
    assert cfg.options == ["a=b", 0.001]


@pytest.mark.parametrize("item", ["scale=[1", "lr={a: b", "data.classes={Müller: [1,2,3]}", "trials=[{a: b]"])
def test_what_nothing_can_read_is_left_for_hydra_to_refuse(item: str) -> None:
    assert readable([item]) == [item]


def test_a_reference_to_another_option_stays_one(compose) -> None:
    assert compose(*readable(["out=${ckpt}/größe", "ckpt=/a b"])).out == "/a b/größe"


def test_commas_part_values_where_several_runs_are_wanted() -> None:
    assert readable(["-m", "init_from=a,b"]) == ["-m", "init_from=a,b"]


@pytest.mark.parametrize(
    ("overrides", "value"),
    [
        (["ckpt=a"], "a"), (["++ckpt=a"], "a"), (["+ckpt=a"], "a"), (["ckpt='a b'"], "a b"),
        (["ckpt=a", "ckpt=b"], "b"), (["ckpt= a"], " a"), ([r"ckpt='it\'s'"], "it's"), (["ckpt=null"], None),
        (["ckpt="], ""), (["~ckpt"], None), ([], None), (["ckpt_path=a", "x.ckpt=b", "--ckpt=3"], None),
        (["ckpt=a", "ckpt=null"], None), (["ckpt='null'"], "null"),
    ],
)  # fmt: skip
def test_value_of_reads_as_hydra_does(overrides: list[str], value: str | None) -> None:
    assert value_of("ckpt", overrides) == value


def test_value_of_other_kinds_is_their_text() -> None:
    assert value_of("seeds", ["seeds=[1,2]"]) == "[1,2]"
    assert value_of("inference", ["inference=multiscale"]) == "multiscale"
    assert value_of("seed", ["seed=007"]) == "007"


def test_without() -> None:
    assert without("ckpt", ["ckpt=a", "++ckpt=b", "~ckpt", "ckpt_path=c", "--ckpt"]) == ["ckpt_path=c", "--ckpt"]


@pytest.mark.parametrize(
    "typed", ["data.root=/a/b", "ckpt=Müller [1]", "+a.b=[1,2]", "lr=0.1", "x='a b'", "~a", "n=null"]
)
def test_an_override_is_shown_as_it_was_typed(typed: str) -> None:
    assert as_typed(*readable([typed])) == typed
