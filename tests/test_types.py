"The nouns: ids from content, wire forms, templates, rewards."

import math

import pytest

from agentlightning_nb.errors import BadRequestError, RewardError, error_from_json, error_kinds, error_to_json
from agentlightning_nb.types import (
    LLM,
    AgentLightningTask,
    AgentResource,
    ModelWeights,
    PromptTemplate,
    ToolDefinition,
    as_resources,
    as_tasks,
    check_reward,
    resource_from_json,
    resource_to_json,
)


def test_task_id_follows_from_content_not_from_mode():
    one, two = AgentLightningTask(context="a", mode="train"), AgentLightningTask(context="a", mode="val")
    assert one.task_id == two.task_id != AgentLightningTask(context="b").task_id


def test_tasks_from_a_dataframe_are_rows_with_plain_values():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"q": ["a", "b"], "x": [1.5, math.nan]})
    assert [t.input for t in as_tasks(frame)] == [{"q": "a", "x": 1.5}, {"q": "b", "x": None}]


def test_tasks_from_anything_with_len_and_getitem():
    class Dataset:
        def __len__(self):
            return 2

        def __getitem__(self, i):
            return {"i": i}

    assert [t.input for t in as_tasks(Dataset())] == [{"i": 0}, {"i": 1}]


def test_input_that_is_not_json_is_refused_by_name():
    with pytest.raises(BadRequestError, match=r"task\.input\['f'\] is a function"):
        AgentLightningTask(input={"f": lambda: 0})


@pytest.mark.parametrize(
    "resource",
    [
        PromptTemplate("{a}"),
        LLM("m", sampling={"top_p": 0.5}),
        LLM("m", base_url="http://x/v1"),
        ToolDefinition("add", "adds", {"type": "object", "properties": {"a": {"type": "number"}}}),
        ModelWeights("/tmp/w", base_model="m", step=3),
        AgentResource(colour="red"),
    ],
)
def test_resources_survive_the_wire(resource):
    assert resource_from_json(resource_to_json(resource)) == resource


def test_llm_travels_under_the_names_of_the_protocol_without_its_key():
    wire = resource_to_json(LLM("m", sampling={"temperature": 0}).model_copy(update={"api_key": "secret"}))
    assert wire == {"resource_type": "llm", "model": "m", "endpoint": "", "sampling_parameters": {"temperature": 0}}
    old = {
        "resource_type": "proxy_llm",
        "endpoint": "http://x/v1",
        "model": "m",
        "api_key": None,
        "sampling_parameters": {},
    }
    assert resource_from_json(old).base_url == "http://x/v1"


def test_a_bare_string_is_no_resource():
    with pytest.raises(BadRequestError, match="'system' is a str"):
        as_resources({"system": "be nice"})


@pytest.mark.parametrize("engine, text", [("f-string", "{a} {b}"), ("jinja", "{{ a }} {{ b }}")])
def test_template_names_what_is_missing(engine, text):
    assert PromptTemplate(text, engine=engine).format(a=1, b=2) == "1 2"
    with pytest.raises(BadRequestError, match="needs b; given: a"):
        PromptTemplate(text, engine=engine).format(a=1)


def test_templates_cannot_reach_into_objects():
    with pytest.raises(BadRequestError, match="not a plain name"):
        PromptTemplate("{a.__class__}").format(a=1)
    with pytest.raises(BadRequestError):
        PromptTemplate("{{ ''.__class__.__mro__[1].__subclasses__() }}", engine="jinja").format()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "1", [1], {}])
def test_bad_rewards_are_refused_by_name(value):
    with pytest.raises(RewardError, match="'speed'"):
        check_reward(value, "speed")


def test_every_error_crosses_the_wire_as_its_own_class():
    for name, cls in error_kinds().items():
        back = error_from_json(error_to_json(cls("why")), cls.status)
        assert (type(back).__name__, str(back)) == (name, "why")
