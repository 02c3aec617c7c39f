"""One job from start to end: check, claim, build or take up, train, measure; each stage is one call down."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from pathlib import Path

from gaprun.errors import Failure, GaprunError
from gaprun.evaluation.run import evaluate_run
from gaprun.evaluation.task import Task
from gaprun.jobs.attempt import Attempt, claim
from gaprun.jobs.holding import beating
from gaprun.jobs.kept import KeptStore
from gaprun.jobs.log import RunLog
from gaprun.jobs.preflight import Prepared, prepare_job
from gaprun.jobs.take_up import build_or_take_up
from gaprun.recipe.jobs import Job
from gaprun.runtime.distributed import ALONE, World
from gaprun.runtime.environment import code_version, environment, pick_device, prepare
from gaprun.runtime.events import Event, Interrupted, Report, StopRequest, quietly
from gaprun.store import Store
from gaprun.store.claims import ClaimLost
from gaprun.training.alone import check_micro_batch
from gaprun.training.loop import train_steps
from gaprun.training.state import TrainState, check_shared


def run_job(job: Job, store: Store, device_name: str, report: Report, world: World = ALONE) -> None:
    """Train and measure `job`, or go on where it stopped; what is done already is not done again.

    Every process of `world` calls this; the first alone writes to the store and reports. Raises UserError before
    anything is written when the job cannot start (also: another process is at it, or its folder holds anything of
    another run), Failure when it fails on the way (status `failed` with the error), Interrupted after Ctrl-C or SIGTERM
    or when a process of `world` was lost (status `interrupted`). A run that was finished before stays finished.
    """
    device = pick_device(device_name)
    report = quietly(report)
    with StopRequest().listening() as stop, ExitStack() as held:

        def check() -> Prepared:
            prepare(job.recipe.compute, device)
            ready = prepare_job(job, store if world.first else None)
            check_shared(ready.length, world)
            if world.size == 1:  # several share their statistics
                check_micro_batch(job.recipe, ready.length)
            return ready

        ready = world.together(check)
        here, code = environment(device) | {"processes": world.size}, code_version()
        own = world.on_first(lambda: claim(job, store, ready, here, code, report, held))
        kept = KeptStore(store, own.folder, code) if world.first else None
        log = RunLog(own.folder, report) if world.first else None
        report = log or report
        attempt = Attempt(job, kept or store, kept, device, ready, own, code, stop, report, world)
        try:
            if kept is not None:
                held.enter_context(beating(kept, job.id))
            state, saved = build_or_take_up(attempt)
            path, weights = _train(attempt, state, saved)
            _measure(attempt, state, weights)
            place = str(path.relative_to(store.artifacts.parent))
            world.on_first(
                lambda: attempt.store.finish_run(
                    job.id, "finished", checkpoint=place, checkpoint_hash=weights
                )
            )
        except BaseException as error:
            if log is not None:
                log.line(f"ended: {type(error).__name__}: {error}")
            if kept is not None:
                _record_end(kept, job, error)
                if kept.gone and isinstance(error, GaprunError):
                    raise type(error)(f"{error}; {kept.where()}") from None
            raise
        if log is not None:
            log.line("finished")
        if kept is not None and kept.gone:
            raise Failure(f"{job.id}: {kept.where()}")


def _train(attempt: Attempt, state: TrainState, saved: tuple[Path, str] | None) -> tuple[Path, str]:
    """Path and weights hash of the run's last checkpoint, after the steps that it lacks."""
    job, ready = attempt.job, attempt.ready
    if saved is None or state.step < ready.length.total:
        saved = train_steps(
            job,
            attempt.store,
            state,
            ready.splits,
            ready.members,
            attempt.own.folder,
            attempt.stop,
            attempt.report,
            lambda weights: _measure(attempt, state, weights, along=True),
        )
    state.end()
    if state.damaged and attempt.kept is not None:
        attempt.kept.annotate(job.id, {"damaged": sorted(state.damaged)})
    return saved


def _measure(attempt: Attempt, state: TrainState, weights: str, along: bool = False) -> None:
    """What the recipe's `eval` asks for at the end, or `along` training. Raises what could not be measured."""
    job, report = attempt.job, attempt.report
    tasks: list[Task] = list(job.recipe.eval)
    done = evaluate_run(
        towers=state.towers,
        checkpoint_hash=weights,
        step=state.step,
        tasks=[task for task in tasks if task.along] if along else tasks,
        store=attempt.store,
        run_id=job.id,
        device=attempt.device,
        workers=job.recipe.data.workers,
        progress=lambda phase, done, total: report(Event(job.id, phase, done, total)),
        training_values={"temperature": 1.0 / state.beta_value()},
        train_name=attempt.ready.name,
        should_stop=lambda: attempt.stop.raise_if(state.step),
        world=attempt.world,
        keep=not along,
    )
    for remark in done.remarks:
        report(Event(job.id, "measure", 1, 1, remark))
    done.raise_failures()


def _record_end(store: KeptStore, job: Job, error: BaseException) -> None:
    """Write how the run ended; a store that does not take it leaves that to who reads the row next."""
    if isinstance(error, ClaimLost):
        return
    with suppress(GaprunError):
        if isinstance(error, Interrupted | KeyboardInterrupt):
            store.finish_run(job.id, "interrupted", error=str(error) or "stopped by a second signal")
            return
        text = str(error) if isinstance(error, GaprunError) else f"{type(error).__name__}: {error}"
        store.finish_run(job.id, "failed", error=text.splitlines()[0] if text else type(error).__name__)
