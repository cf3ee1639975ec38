"""LangChain's and LiteLLM's adapters of OpenAI's protocol against `glmconv serve`."""
import litellm
import pytest
from langchain_openai import ChatOpenAI

import scripted
import service

PEER = ("langchain-openai", "litellm")
QUESTION = "What's the weather in Beijing?"
TOOL = {"type": "function", "function": {"name": scripted.NAME, "description": "", "parameters": {"type": "object", "properties": {scripted.KEY: {"type": "string"}}, "required": [scripted.KEY]}}}
ARGUMENTS = {scripted.KEY: scripted.VALUE}


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with service.serve(scripted.make(tmp_path_factory.mktemp("scripted") / "model")) as u:
        yield u


def test_langchain(url):
    """LangChain: an answer, a stream, a tool call with its arguments"""
    chat = ChatOpenAI(model="glm", base_url=url + "/v1", api_key="EMPTY", temperature=0)
    assert scripted.ANSWER in chat.invoke(QUESTION).content
    assert scripted.ANSWER in "".join(c.content for c in chat.stream(QUESTION))
    call, = chat.bind_tools([TOOL]).invoke(QUESTION).tool_calls
    assert (call["name"], call["args"]) == (scripted.NAME, ARGUMENTS)


def test_litellm(url):
    """LiteLLM: reasoning and answer, a stream, a tool call with its arguments"""
    ask = dict(model="openai/glm", api_base=url + "/v1", api_key="EMPTY", messages=[{"role": "user", "content": QUESTION}])
    m = litellm.completion(**ask, tools=[TOOL]).choices[0].message
    assert m.reasoning_content == scripted.REASONING and scripted.ANSWER in m.content
    assert m.tool_calls[0].function.name == scripted.NAME
    assert scripted.ANSWER in "".join(c.choices[0].delta.content or "" for c in litellm.completion(**ask, stream=True))
