"The metrics of a run arrive in the real TensorBoard, Weights & Biases, MLflow and trackio where they are installed, and nothing of it can stop a run."

import sqlite3
from pathlib import Path

import pytest

from agentlightning_nb import loggers
from agentlightning_nb.errors import BadRequestError, MissingExtraError
from agentlightning_nb.litagent import rollout
from agentlightning_nb.trainer import Trainer

METRICS = [{"reward": 0.25, "val_pass@1": 0.5}, {"reward": 0.75}]


class Logs:
    "An algorithm that says the same metrics each time, two steps a run."

    def run(self, run):
        done = (run.state or {}).get("step", 0)
        for step in (done, done + 1):
            run.log(step, **METRICS[step - done])
        run.checkpoint({"step": done + 2})


@rollout
def agent(task):
    return 1.0


def fit(folder, log_to, resume=None):
    with Trainer(n_workers=1, store=Path(folder, "run.db"), log_to=log_to) as trainer:
        run = trainer.fit(agent, algorithm=Logs(), tasks=["a"], resume=resume, progress=False)
        assert run.status == "succeeded", run.reason
        kept = [(m["step"], m["name"], m["value"]) for m in trainer.store.query_metrics(run.run_id)]
    return run, kept


def test_tensorboard_reads_the_event_file_back(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run, _ = fit(tmp_path, "tensorboard")
    fit(tmp_path, "tensorboard", run.run_id)
    events = accumulator.EventAccumulator(str(tmp_path / "run.files" / "tensorboard" / run.run_id))
    events.Reload()
    assert set(events.Tags()["tensors"]) == {"reward", "val_pass@1"}
    told = [(e.step, float(e.tensor_proto.float_val[0])) for e in events.Tensors("reward")]
    assert told == [(0, 0.25), (1, 0.75), (2, 0.25), (3, 0.75)]


def records(path):
    "What a .wandb file holds: a head of seven bytes, then records in LevelDB's log format."
    data, at, part = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # the rest of a block is empty
            at += 32768 - at % 32768
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        part += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield part
            part = b""


def test_wandb_keeps_an_offline_run(tmp_path, monkeypatch):
    pb = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    monkeypatch.setenv("WANDB_MODE", "offline")
    run, _ = fit(tmp_path, "wandb")
    (kept,) = (tmp_path / "run.files" / "wandb").glob(f"offline-run-*-{run.run_id}/*.wandb")
    told = []
    for record in map(pb.Record.FromString, records(kept)):
        row = {i.key or ".".join(i.nested_key): i.value_json for i in record.history.item}
        told += [(int(row["_step"]), float(row["reward"]))] if row else []
    assert told == [(0, 0.25), (1, 0.75)]


def test_mlflow_has_the_run_and_a_resumed_one_goes_on_in_it(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    run, _ = fit(tmp_path, "mlflow")
    fit(tmp_path, "mlflow", run.run_id)
    client = MlflowClient()
    (found,) = client.search_runs([client.get_experiment_by_name("agentlightning").experiment_id])
    assert found.info.run_name == run.run_id and found.info.status == "FINISHED"
    assert found.data.params["algorithm"] == "Logs"
    history = client.get_metric_history(found.info.run_id, "reward")
    assert sorted((m.step, m.value) for m in history) == [(0, 0.25), (1, 0.75), (2, 0.25), (3, 0.75)]
    assert client.get_metric_history(found.info.run_id, "val_pass_at_1")[0].value == 0.5


def test_trackio_keeps_the_run_on_this_machine(tmp_path, monkeypatch):
    pytest.importorskip("trackio")
    monkeypatch.setattr("trackio.utils.TRACKIO_DIR", tmp_path / "trackio")
    monkeypatch.setattr("trackio.sqlite_storage.TRACKIO_DIR", tmp_path / "trackio")
    run, _ = fit(tmp_path, "trackio")
    with sqlite3.connect(tmp_path / "trackio" / "agentlightning.db") as conn:
        rows = conn.execute(
            "SELECT step, json_extract(metrics, '$.reward') FROM metrics WHERE run_name = ?", (run.run_id,)
        )
        assert sorted(rows) == [(0, 0.25), (1, 0.75)]


def test_a_logger_that_fails_or_hangs_stops_nothing(tmp_path, monkeypatch, caplog):
    def failing(about):
        def write(step, metrics):
            raise OSError("disk full")

        return loggers.Writer(write, lambda: None)

    monkeypatch.setitem(loggers.PLACES, "json", failing)  # a module that is there
    run, kept = fit(tmp_path, ("json",))
    assert (0, "reward", 0.25) in kept and run.step == 2
    assert "json failed and gets no more of run" in caplog.text and "disk full" in caplog.text


def test_an_unknown_name_and_a_missing_package_are_said_at_once(monkeypatch):
    with pytest.raises(
        BadRequestError, match="log_to names 'tensorbord'. Available: tensorboard, wandb, mlflow, trackio"
    ):
        Trainer(log_to="tensorbord")
    monkeypatch.setitem(loggers.PLACES, "nowhere_to_be_found", None)
    with pytest.raises(MissingExtraError, match="Run: pip install nowhere_to_be_found"):
        Trainer(log_to=["nowhere_to_be_found"])
