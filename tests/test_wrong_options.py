"A trainer refuses an argument that makes no sense where it is given, by its name and with what would make sense."

import asyncio

import pytest

from agentlightning_nb.algorithms.apo import APO
from agentlightning_nb.algorithms.gepa import GEPA
from agentlightning_nb.algorithms.sft import SFT
from agentlightning_nb.errors import BadRequestError, LightningError
from agentlightning_nb.litagent import LitAgent, rollout
from agentlightning_nb.server import AgentLightningServer
from agentlightning_nb.trainer import Trainer
from agentlightning_nb.types import AgentLightningTask


class Half(LitAgent):
    def training_rollout(self, task, rollout_id, resources):
        return 0.5


class Look:
    def __init__(self):
        self.steps = 0

    def optimize_step(self, rollout_results, resources_version):
        self.steps += 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_steps": 0}, "max_steps is 0; give a whole number from 1"),
        ({"max_steps": "x"}, "max_steps is 'x'"),
        ({"max_steps": 1.5}, "max_steps is 1.5"),
        ({"batch_size": -1}, "batch_size is -1"),
        ({"n": True}, "n is True"),
        ({"seed": "x"}, "seed is 'x'; give a whole number from 0"),
        ({"lr": "x"}, "lr is 'x'; give a number above 0"),
        ({"timeout_s": -1}, "timeout_seconds"),
        ({"max_attempts": "x"}, "max_attempts"),
        ({"resume": 5}, "resume is a int; give a run, or its id"),
        ({"algorithm": Look}, "the class Look; give an instance"),
        ({"agent": Half}, "the class Half; give an instance, such as Half()"),
        ({"agent": lambda task: 1.0}, "decorate a function with @rollout"),
        ({"agent": None}, "agent is a NoneType"),
    ],
)
def test_fit(options, said):
    given = {"agent": Half(), "algorithm": Look(), "tasks": [1]} | options
    with Trainer(n_workers=1) as trainer, pytest.raises(BadRequestError) as refused:
        trainer.fit(given.pop("agent"), algorithm=given.pop("algorithm"), progress=False, **given)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n_workers": "x"}, "n_workers is 'x'; give a whole number from 1"),
        ({"n_workers": 1.5}, "n_workers is 1.5"),
        ({"n_workers": None}, "n_workers is None"),
        ({"backend": 5}, "backend is a int; give a URL"),
        ({"store": 5}, "store is a int; give a LightningStore"),
        ({"upstream": 5}, "upstream is a int; give an engine"),
        ({"upstream": ["http://localhost:1/v1", None]}, "upstream is a NoneType"),
        ({"log_to": 5}, "log_to is a int; give names: tensorboard"),
        ({"workers": "fork"}, "There are: thread, process, ray"),
    ],
)
def test_a_trainer(options, said):
    with pytest.raises(BadRequestError) as refused:
        Trainer(**options)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("options", "said"), [({"store": "run.db"}, "LightningStore('run.db')"), ({"upstream": 5}, "upstream")]
)
def test_a_server(options, said):
    with pytest.raises(BadRequestError) as refused:
        AgentLightningServer(**options)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "options",
    [
        {"port": 70_000},
        {"port": "8000"},
        {"port": None},
        {"host": ""},
        {"host": None},
        {"token": 5},
        {"token": "a "},
        {"token": "ü"},
    ],
)
def test_where_a_server_listens_and_its_token(options):
    (name,) = options
    with pytest.raises(LightningError, match=f"^{name} is"), AgentLightningServer(**options):
        pass


@pytest.mark.parametrize("agent", [None, 5, Half, lambda task: 1.0])
def test_dev_wants_an_agent_before_anything_else(agent):
    trainer = Trainer(n_workers=1)
    with pytest.raises(LightningError, match="^agent is"):
        asyncio.run(trainer.dev(agent=agent, task=AgentLightningTask()))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n": 0}, "n is 0; give a whole number from 1"),
        ({"sampling": 5}, "sampling is a int"),
        ({"timeout_s": "x"}, "timeout_seconds"),
    ],
)
def test_evaluate(options, said):
    with Trainer(n_workers=1) as trainer, pytest.raises(BadRequestError) as refused:
        trainer.evaluate(Half(), [1], **options)
    assert said in str(refused.value)


def test_no_validation_may_be_said_as_none():
    with Trainer(n_workers=1) as trainer:
        trainer.fit(rollout(lambda task: 1.0), algorithm=(look := Look()), tasks=[1], val_tasks=None, progress=False)
    assert look.steps == 1


def of_grpo(**options):
    return pytest.importorskip("agentlightning_nb.algorithms.grpo").GRPO(**options)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: of_grpo(lr="x"), "GRPO: lr is 'x'; give a number or None"),
        (lambda: of_grpo(temperature="x"), "GRPO: temperature is 'x'; give a number"),
        (lambda: of_grpo(n=1.5), "GRPO: n is 1.5; give a whole number"),
        (lambda: of_grpo(seed=None), "GRPO: seed is None; give a whole number"),
        (lambda: of_grpo(kl=0.1), "GRPO: kl is 0.1; give KL(...)"),
        (lambda: of_grpo(clip=0.2), "GRPO: clip is 0.2; give Clip(...)"),
        (lambda: of_grpo(lora=8), "GRPO: lora is 8; give Lora(...) or None"),
        (lambda: of_grpo(rewards={"a": 1}), "give Rewards(...)"),
        (lambda: of_grpo(curriculum=True), "give Curriculum(...) or None"),
        (lambda: of_grpo(advantage=5), "GRPO: advantage is 5; give text"),
        (lambda: APO("m", budget=5), "APO: budget is 5; give Budget(...)"),
        (lambda: APO("m", race=1), "APO: race is 1; give True or False"),
        (lambda: APO(5), "APO: model is 5; give LLM(...) or text or None"),
        (lambda: GEPA("m", seed="x"), "GEPA: seed is 'x'; give a whole number"),
        (lambda: SFT(lr="x"), "SFT: lr is 'x'; give a number"),
        (lambda: SFT(contested=1), "SFT: contested is 1; give True or False"),
    ],
)
def test_an_algorithm_says_what_its_options_take(make, said):
    with pytest.raises(BadRequestError) as refused:
        make()
    assert said in str(refused.value)
