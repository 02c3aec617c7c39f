def test_the_values_printed_are_those_of_the_checkpoint_asked_for(tmp_path):
    """A run has steps 20 and 40 measured; asked for 20 again, its rows are step 20's, found and not made."""
    store, pictures = open_store(str(tmp_path / "r.db")), Pictures(4)
    begin(store)
    gaps = []
    for step, seed in ((20, 0), (40, 1), (20, 0)):
        torch.manual_seed(seed)
        model = towers_of(CONFIG, Settings(), open_clip.SimpleTokenizer(), 16)
        done = evaluate_run(
            towers=model, checkpoint_hash=f"w{seed}", step=step, tasks=[pictures.task()], store=store, run_id="x",
            device=CPU,
        )  # fmt: skip
        rows = store.metrics_by_evaluation(done.evaluations)
        assert {(row["step"], row["checkpoint_hash"]) for row in rows} == {(step, f"w{seed}")}
        gaps.append(next(row["value"] for row in rows if row["metric"] == "gap"))
    assert gaps[0] == gaps[2] != gaps[1] and done.encoded == 0


def test_captions_that_repeat_over_pictures_are_counted():
    from gaprun.evaluation.tasks.retrieval import repeated_captions

    pictures = Pictures(4)
    assert repeated_captions(pictures) == {}
    pictures.captions = [["a dog", "a dog"], ["a dog", "a cat"], ["A dog"], []]
    assert repeated_captions(pictures) == {
        "repeated_captions": 3.0
    }  # within one picture alone it is no repeat
