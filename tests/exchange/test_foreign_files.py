"""Result files of every shape that others make: read as they meant it, or refused in one line that names the place."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from gaprun.cli.main import app
from gaprun.errors import UserError
from gaprun.exchange import formats
from gaprun.exchange.formats import read_file
from gaprun.exchange.results import import_files
from gaprun.store import Store, open_store
from gaprun.store.export import export
from tests.conftest import run_gaprun

RECALL = {"image_retrieval_recall@5": 0.5}


def benchmark(path: Path, metrics: dict[str, Any], **changes: Any) -> Path:
    """A file in the shape that CLIP_benchmark writes."""
    row = {"dataset": "flickr30k", "model": "ViT-B-32", "pretrained": "openai", "task": "zeroshot_retrieval"}
    path.write_text(json.dumps({**row, "language": "en", "metrics": metrics, **changes}))
    return path


def table(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "results.db"))


def stored(store: Store, name: str) -> dict[tuple[str, str], float]:
    """Values of a metric by recipe and data set."""
    return {(row["recipe"], row["dataset"]): round(row["value"], 9) for row in store.metric_rows([name])}


def test_languages_are_kept_apart_and_named(store: Store, tmp_path: Path) -> None:
    """Also where both languages gave the same number, and where the file says no language."""
    shares = {"en": 0.7, "de": 0.3, "jp": 0.3, None: 0.7}
    files = [
        benchmark(tmp_path / f"{language}.json", {"image_retrieval_recall@5": share}, language=language)
        for language, share in shares.items()
    ]
    report = import_files(lambda: store, files)
    assert report.refused == []
    assert {place: value for (_, place), value in stored(store, "image_recall@5").items()} == {
        "flickr30k": 70.0, "flickr30k-de": 30.0, "flickr30k-jp": 30.0,
    }  # fmt: skip
    done = run_gaprun("compare", "--metric", "image_recall@5", "--db", str(store.place.path), "--json")
    assert {row["dataset"] for row in json.loads(done.stdout)} == {
        "flickr30k",
        "flickr30k-de",
        "flickr30k-jp",
    }


def test_what_is_here_under_another_name_of_its_data_is_not_taken_for_imported(
    store: Store, tmp_path: Path
) -> None:
    file = benchmark(tmp_path / "one.json", RECALL)
    first = import_files(lambda: store, [file, str(file)])
    assert [one.values for one in first.done] == [1] and first.refused == []
    again = import_files(lambda: store, [file], data="flickr30k/val")
    assert again.done == [] and "as measured on flickr30k/test and not on flickr30k/val" in again.refused[0]
    assert import_files(lambda: store, [file]).refused == []
    assert stored(store, "image_recall@5") == {("ViT-B-32-openai@CLIP_benchmark", "flickr30k"): 50.0}


def test_an_export_that_says_otherwise_is_refused_with_a_way_out(store: Store, tmp_path: Path) -> None:
    import_files(lambda: store, [benchmark(tmp_path / "one.json", RECALL)])
    export(store, tmp_path / "out.zip", None)
    (run,) = store.runs()
    store.set_note(run.id, "changed")
    report = import_files(lambda: store, [tmp_path / "out.zip"])
    assert report.done == [] and "gaprun runs rm" in report.refused[0] and run.id in report.refused[0]
    assert "--on-conflict" not in report.refused[0]


@pytest.mark.parametrize("words", [{"name": "mine"}, {"data": "coco/test"}])
def test_an_export_of_our_own_keeps_its_names(store: Store, tmp_path: Path, words: dict[str, str]) -> None:
    import_files(lambda: store, [benchmark(tmp_path / "one.json", RECALL)])
    export(store, tmp_path / "out.zip", None)
    other = open_store(str(tmp_path / "other.db"))
    report = import_files(lambda: other, [tmp_path / "out.zip"], **words)
    (option,) = words
    assert f"have their names and data: leave --{option} out" in report.refused[0] and other.runs() == []
    assert len(import_files(lambda: other, [tmp_path / "out.zip"]).done) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--experiment", "mine"], "--experiment does nothing with --as csv"),
        (["--device", "cpu"], "--device does nothing with --as csv"),
        (["--as", "open_clip", "--where", "seed=0"], "--where does nothing with --as open_clip"),
        (["--as", "tensorboard", "--force"], "--force does nothing with --as tensorboard"),
    ],
)
def test_an_option_of_another_receiver_is_refused(store: Store, words: list[str], said: str) -> None:
    done = CliRunner().invoke(app, ["runs", "export", *words, "--db", str(store.place.path)])
    assert isinstance(done.exception, UserError) and said in str(done.exception)


def test_a_second_number_for_the_same_question_is_not_stored_over_the_first(
    store: Store, tmp_path: Path
) -> None:
    one = benchmark(tmp_path / "one.json", {"image_retrieval_recall@5": 0.5})
    other = benchmark(tmp_path / "other.json", {"image_retrieval_recall@5": 0.6})
    more = benchmark(
        tmp_path / "more.json", {"image_retrieval_recall@5": 0.5, "text_retrieval_recall@5": 0.75}
    )
    report = import_files(lambda: store, [one, other, more])
    assert len(report.refused) == 1 and "other.json: ViT-B-32-openai@CLIP_benchmark" in report.refused[0]
    assert "(50.0, not 60.0)" in report.refused[0] and "--name" in report.refused[0]
    assert list(stored(store, "image_recall@5").values()) == [50.0]
    assert list(stored(store, "text_recall@5").values()) == [75.0]
    assert import_files(lambda: store, [other], name="amp").refused == []
    assert sorted(stored(store, "image_recall@5").values()) == [50.0, 60.0]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("coco/test", "measured on flickr30k, not on coco"),
        ("flickr30k-de/test", "measured on flickr30k, not on flickr30k-de"),
        ("coco", "no data split 'coco'"),
        ("../x/test", "the data set '..' cannot be a name"),
        ("flickr30k/a b", "cannot be a name"),
    ],
)
def test_data_that_contradicts_the_file_is_refused(
    store: Store, tmp_path: Path, data: str, said: str
) -> None:
    file = benchmark(tmp_path / "one.json", RECALL)
    try:
        report = import_files(lambda: store, [file], data)
        assert said in report.refused[0]
    except UserError as error:
        assert said in str(error)
    assert store.runs() == []
    assert import_files(lambda: store, [file], "flickr30k/karpathy").refused == []
    assert [row["split"] for row in store.metric_rows(["image_recall@5"])] == ["karpathy"]


ODD = {
    "percent": ({"image_retrieval_recall@5": 70.0}, "image_retrieval_recall@5 is 70, which is no share .*percent"),
    "recall 7": ({"image_retrieval_recall@5": 7.0}, "is 7, which is no share"),
    "negative": ({"image_retrieval_recall@5": -0.1}, "is -0.1, which is no share"),
    "infinite": ({"image_retrieval_recall@5": float("inf")}, "is inf, which is no share"),
    "1e308": ({"image_retrieval_recall@5": 1e308}, "no share"),
    "an integer of 400 digits": ({"image_retrieval_recall@5": 10**400}, "absurdly large"),
}  # fmt: skip


@pytest.mark.parametrize(("metrics", "said"), ODD.values(), ids=list(ODD))
def test_numbers_that_cannot_be_refuse_the_file(tmp_path: Path, metrics: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=rf"one\.json: .*{said}"):
        read_file(benchmark(tmp_path / "one.json", metrics | {"text_retrieval_recall@5": 0.5}))


LINES = {
    '{"epoch": 1, "text_to_image_R@1": 1.5}': "text_to_image_R@1 is 1.5, which is no share",
    '{"epoch": 1, "text_to_image_mean_rank": 0.5}': "is 0.5, which cannot be",
    '{"epoch": 1, "num_samples": 10, "text_to_image_mean_rank": 11}': "is 11 of 10 samples",
    '{"epoch": 1, "clip_val_loss": -1}': "clip_val_loss is -1, which cannot be",
    '{"epoch": 1, "clip_val_loss": 1e308}': "clip_val_loss is 1e+308, which cannot be",
    '{"epoch": -1, "clip_val_loss": 1}': "its epoch is -1, which cannot be",
    '{"epoch": true, "clip_val_loss": 1}': "its epoch is true, which cannot be",
    '{"epoch": "3", "clip_val_loss": 1}': 'its epoch is "3", which cannot be',
    '{"epoch": 1e300, "clip_val_loss": 1}': "its epoch is 1e+300, which cannot be",
    '{"epoch": Infinity, "clip_val_loss": 1}': "its epoch is Infinity, which cannot be",
    '{"epoch": NaN, "clip_val_loss": 1}': "its epoch is NaN, which cannot be",
    '{"epoch": 1.5, "clip_val_loss": 1}': "its epoch is 1.5, which cannot be",
    '{"epoch": 1, "num_samples": -5, "clip_val_loss": 1}': "its num_samples is -5, which cannot be",
    '{"epoch": 1, "clip_val_loss": 1, "clip_val_loss": 2}': "says 'clip_val_loss' twice",
    '{"epoch": 1, "../x-zeroshot-val-top1": 0.5}': "'../x' cannot be a name",
    '{"epoch": 1, "x-zeroshot-a/../b-top1": 0.5}': "'a/../b' cannot be a name",
}


@pytest.mark.parametrize(("line", "said"), LINES.items())
def test_lines_that_cannot_be_are_named(tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "results.jsonl"
    file.write_text(f'{{"epoch": 0, "clip_val_loss": 2}}\n{line}\n')
    with pytest.raises(UserError) as caught:
        read_file(file)
    assert str(caught.value).startswith(f"{file}, line 2: ") and said in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_what_is_no_number_is_named_and_the_rest_comes_in(tmp_path: Path) -> None:
    metrics = {
        "image_retrieval_recall@1": True,
        "image_retrieval_recall@5": "0.5",
        "image_retrieval_recall@10": None,
        "text_retrieval_recall@1": [0.5],
        "text_retrieval_recall@5": 0.25,
        "text_retrieval_recall@10": float("nan"),
        "image_retrieval_recall@007": 0.5,
    }
    (record,) = read_file(benchmark(tmp_path / "one.json", metrics))
    assert [value.name for value in record.values] == ["text_recall@5", "text_recall@10"]
    assert record.values[0].value == 25.0 and record.values[1].value != record.values[1].value
    assert record.left_out == ["image_retrieval_recall@007"]
    assert record.odd == [
        "image_retrieval_recall@1 (true)", 'image_retrieval_recall@5 ("0.5")', "image_retrieval_recall@10 (null)",
        "text_retrieval_recall@1 (a list of 1)", "text_retrieval_recall@10 (NaN)",
    ]  # fmt: skip


NAMES = {
    "dataset": ["../../etc", "a b", "x\0y", "\ud800", "", " ", None, 5, ["flickr30k"], "x" * 300, "-rf"],
    "language": ["../de", "d e", "x\0", 7, {"de": 1}],
    "model": ["", None, 5, "a\0b", "\udfff"],
    "pretrained": [5, ["openai"], "a\0b"],
    "task": [None, 5, ""],
}


@pytest.mark.parametrize("key", NAMES)
def test_names_that_are_none_are_refused(tmp_path: Path, key: str) -> None:
    for value in NAMES[key]:
        with pytest.raises(UserError, match=rf"one\.json: its {key}") as caught:
            read_file(benchmark(tmp_path / "one.json", RECALL, **{key: value}))
        assert "\n" not in str(caught.value) and "\0" not in str(caught.value)


def test_no_name_from_a_file_is_a_path(store: Store, tmp_path: Path) -> None:
    """Model names may be paths: what is made of them is plain, and different models stay different runs."""
    models = ["../../../etc/passwd", "/", "..", "local-dir:models/../x", "a b", "a-b", "-rf", "é" * 300]
    for number, model in enumerate(models):
        file = benchmark(tmp_path / "one.json", {"image_retrieval_recall@5": number / 10}, model=model)
        assert import_files(lambda: store, [file]).refused == []
    runs = store.runs()
    assert len(runs) == len(models)
    for run in runs:
        assert store.folder(run).parent == store.artifacts and len(run.id) < 200
        assert run.id[0].isalnum() and "/" not in run.id


FILES = {
    "deep.json": (b'{"metrics": ' + b"[" * 200_000, "nested too deeply"),
    "deep.jsonl": (b'{"epoch": 1, "x": ' + b'{"a":' * 200_000, "nested too deeply"),
    "latin.csv": ("dataset,model,pretrained,task\nflickr,Modèle,x,y\n".encode("latin-1"), "line 2: not UTF-8"),
    "utf16.json": ('{"metrics": {}}'.encode("utf-16"), "line 1: not UTF-8"),
    "cell.csv": (b"dataset,model,pretrained,task\n" + b"x" * 200_000 + b",a,b,c\n", "line 2: damaged"),
    "quote.csv": (b'dataset,model,pretrained,task\n"a,b,c,d\n1,2,3,4\n', "damaged"),
    "short.csv": (b"dataset,model,pretrained,task,acc1\na,b,c,d\n", "line 2: 4 fields, the header has 5"),
    "long.csv": (b"dataset,model,pretrained,task\n\na,b,c,d,0.5\n", "line 3: 5 fields, the header has 4"),
    "twice.csv": (b"dataset,model,pretrained,task,acc1,acc1\na,b,c,d,1,1\n", "column 'acc1' is there twice"),
    "twice.json": (b'{"metrics": {"acc1": 0.1, "acc1": 0.9}}', "'acc1' twice"),
    "both.json": (b'{"metrics": {"acc1": 0.1}, "acc1": 0.9}', "'acc1' twice, among its metrics and beside"),
    "digits.json": (b'{"metrics": {"acc1": ' + b"1" * 5000 + b"}}", "damaged, or not a result file"),
    "nul.csv": (b"dataset,model,pretrained,task,acc1\nflickr30k,a\0b,c,zeroshot_classification,0.5\n", "nul.csv"),
    "numbers.csv": (b"1,2\n3,4\n", "no dataset, model, pretrained, task"),
    "profile.csv": (b"model,image_size,mparams\nViT-B-32,224,151\n", "no dataset, pretrained, task"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_damaged_files_get_one_line(tmp_path: Path, name: str) -> None:
    content, said = FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_file(tmp_path / name)
    text = str(caught.value)
    assert name in text and said in text and "\n" not in text and "\0" not in text and len(text) < 500


def test_what_is_no_file_or_too_large_gets_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loop.json").symlink_to(tmp_path / "loop.json")
    for path, said in (
        (tmp_path, "a folder, not a result file"),
        (Path("/dev/zero"), "a device, not a result file"),
        (tmp_path / "loop.json", "cannot be read"),
    ):
        with pytest.raises(UserError, match=said):
            read_file(path)
    monkeypatch.setattr(formats, "MOST_BYTES", 2**20)
    (tmp_path / "big.json").write_bytes(b" " * (2**20 + 1))
    with pytest.raises(UserError, match="larger than 1 MiB"):
        read_file(tmp_path / "big.json")


def test_marks_and_line_ends_of_other_systems_are_read(tmp_path: Path) -> None:
    header, row = (
        "dataset,model,pretrained,task,acc1",
        "wds/vtab/cifar100,ViT-B-32,openai,zeroshot_classification,0.5",
    )
    (tmp_path / "a.csv").write_bytes(f"\ufeff{header}\r\n{row}\r\n".encode())
    (record,) = read_file(tmp_path / "a.csv")
    assert (record.dataset, record.values[0].value, record.model) == (
        "vtab-cifar100",
        50.0,
        "ViT-B-32-openai",
    )
    (tmp_path / "a.jsonl").write_bytes('\ufeff{"epoch": 1, "clip_val_loss": 2, "a\u2028b": 1}\r\n'.encode())
    (record,) = read_file(tmp_path / "a.jsonl")
    assert record.values[0].value == 2.0 and record.left_out == ["a\u2028b"]


def test_the_tables_that_open_clip_publishes(store: Store, tmp_path: Path) -> None:
    """Headers and numbers of its docs/openclip_*_results.csv."""
    one = {"name": "ViT-L-14", "pretrained": "openai"}
    cost = {"params (M)": "427.62", "FLOPs (B)": "175.33"}
    files = [
        table(tmp_path / "openclip_results.csv", [one | cost | {
            "Average perf. on 38 datasets": "030282.6305070175546877", "ImageNet 1k": "0.7554", "Caltech-101": "0.9249",
            "CIFAR-100": "0.7582", "Flickr": "0.7508", "iWildCam": "0.1211", "Camelyon17": "0.6741", "FMoW": "0.0000",
        }]),
        table(tmp_path / "openclip_retrieval_results.csv", [one | cost | {
            "Average score": "0.6588", "Flickr image retr. R@1": "0.6496", "Flickr text retr. R@10": "0.9920",
            "MSCOCO image retr. R@5": "0.6106", "WinoGAViL jaccard score 10-12": "0.4136",
        }]),
        table(tmp_path / "multi.csv", [{
            "model": "nllb-clip-base", "version": "v1", "avg": "0.5",
            "crossmodal3600 image_retrieval_recall@1 avg": "0.5",
            "crossmodal3600 image_retrieval_recall@1 de": "0.25",
            "crossmodal3600 image_retrieval_recall@1 en": "0.75",
            "multilingual_mscoco_captions text_retrieval_recall@10 jp": "0.5",
        }]),
    ]  # fmt: skip
    report = import_files(lambda: store, files)
    assert report.refused == [] and len(store.runs()) == 2
    assert report.left_out == {
        str(files[0]): ["Average perf. on 38 datasets", "Flickr", "iWildCam", "FMoW"],
        str(files[1]): ["Average score", "WinoGAViL jaccard score 10-12"],
        str(files[2]): ["avg", "crossmodal3600 image_retrieval_recall@1 avg"],
    }
    large, multi = "ViT-L-14-openai@open_clip_results", "nllb-clip-base-v1@open_clip_results"
    assert stored(store, "zeroshot_top1") == {
        (large, "imagenet1k"): 75.54, (large, "vtab-cifar100"): 75.82, (large, "wilds-camelyon17"): 67.41,
    }  # fmt: skip
    assert stored(store, "zeroshot_mean_class") == {(large, "vtab-caltech101"): 92.49}
    assert stored(store, "image_recall@1") == {
        (large, "flickr30k"): 64.96,
        (multi, "crossmodal3600"): 75.0,
        (multi, "crossmodal3600-de"): 25.0,
    }
    assert stored(store, "image_recall@5") == {(large, "coco"): 61.06}
    assert stored(store, "text_recall@10") == {
        (large, "flickr30k"): 99.2, (multi, "multilingual_mscoco_captions-jp"): 50.0,
    }  # fmt: skip
    before = {run.id for run in store.runs()}
    assert import_files(lambda: store, files).refused == [] and {run.id for run in store.runs()} == before
    # A number that cannot be is named by line and column.
    table(files[0], [one | {"ImageNet 1k": "0.75"}, one | {"ImageNet 1k": "75.5"}])
    with pytest.raises(UserError, match=r"openclip_results.csv, line 3: ImageNet 1k is 75.5, .*percent"):
        read_file(files[0])


def test_the_good_files_come_in_and_the_others_are_listed(tmp_path: Path) -> None:
    good = [
        benchmark(tmp_path / f"{n}.json", {"image_retrieval_recall@5": n / 100}, model=f"m{n}")
        for n in (1, 2)
    ]
    lacking = benchmark(
        tmp_path / "map.json", {"mean_average_precision": 0.5}, task="zeroshot_classification"
    )
    (tmp_path / "other.json").write_text('{"loss": [1, 2]}')
    (tmp_path / "cut.jsonl").write_text('{"epoch')
    words = [
        str(path) for path in (good[0], tmp_path / "other.json", lacking, tmp_path / "cut.jsonl", good[1])
    ]
    done = run_gaprun("runs", "import", *words, "--db", str(tmp_path / "r.db"), "--json")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert [one["values"] for one in json.loads(done.stdout)] == [1, 1]
    assert "not imported: " in done.stderr and "other.json: not a result of CLIP_benchmark" in done.stderr
    assert "cut.jsonl, line 1: not JSON" in done.stderr and "2 results came in, 2 did not" in done.stderr
    assert "map.json: left out, gaprun has no such metric: mean_average_precision" in done.stderr
    fine = run_gaprun("runs", "import", *words[:1], words[2], "--db", str(tmp_path / "r.db"))
    assert fine.returncode == 0, fine.stderr
    # Nothing at all came in: no database is made.
    none = run_gaprun("runs", "import", words[1], "--db", str(tmp_path / "new.db"))
    assert none.returncode == 2 and none.stderr.startswith("error: ") and not (tmp_path / "new.db").exists()
    none = run_gaprun("runs", "import", words[2], "--db", str(tmp_path / "new.db"))
    assert none.returncode == 1 and not (tmp_path / "new.db").exists()


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
KEYS = st.sampled_from(
    ["dataset", "model", "pretrained", "task", "language", "metrics", "epoch", "num_samples", "clip_val_loss"]
    + ["image_retrieval_recall@5", "acc1", "text_to_image_R@1", "imagenet-zeroshot-val-top1", "templates"]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(
    document=st.dictionaries(KEYS | st.text(max_size=5), ANYTHING, max_size=8),
    ending=st.sampled_from([".json", ".jsonl"]),
)
def test_no_document_is_more_than_one_line(tmp_path: Path, document: dict[str, Any], ending: str) -> None:
    """Whatever a JSON holds, it is read or refused in one line, and what is read can be true."""
    file = tmp_path / f"any{ending}"
    whole = {"dataset": "d", "model": "m", "pretrained": "", "task": "zeroshot_retrieval", "metrics": {}}
    for made in (document, whole | document):
        file.write_text(json.dumps(made))
        try:
            records = read_file(file)
        except UserError as error:
            assert "any.json" in str(error) and "\n" not in str(error)
            continue
        for record in records:
            for value in record.values:
                assert not (
                    value.name.startswith(("image_recall", "zeroshot")) and not 0 <= value.value <= 100
                ) or (value.value != value.value)


def test_importing_and_exporting_load_no_torch(tmp_path: Path) -> None:
    file = benchmark(tmp_path / "one.json", RECALL)
    code = (
        "import sys\n"
        "from gaprun.cli.main import app\n"
        "for words in (['runs', 'import', sys.argv[1], '--db', 'r.db'], ['runs', 'export', '--db', 'r.db'],\n"
        "              ['runs', 'import', 'gaprun-export.zip', '--db', 'other.db'], ['report', '-h'], ['--version']):\n"
        "    try:\n"
        "        app(words)\n"
        "    except SystemExit as end:\n"
        "        assert not end.code, words\n"
        "print([name for name in ('torch', 'open_clip', 'tensorflow') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "[]", done.stderr
