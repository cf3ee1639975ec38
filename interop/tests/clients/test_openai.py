"""The openai package, releases 3 and 1, against `glmconv serve`."""
import asyncio
import os
import pathlib
import re
import subprocess
import sys

import openai
import pytest

import scripted
import service
from checkpoints import REFERENCE

PEER = "openai"
STORY = REFERENCE.parent / "stories" / ("glm-4.5v" + ".md")  # a published guide, which is not part of the repository
OLD = pathlib.Path(sys.prefix) / "openai-1"
RELEASES = {"3": "", "1": str(OLD)}


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    folder = scripted.make(tmp_path_factory.mktemp("scripted") / "model")
    with service.media() as pictures, service.serve(folder, "--allow-media-domain", "127.0.0.1", "--allow-private-media", "--max-num-seqs", "4") as url:
        yield url, pictures


def blocks():
    return re.findall(r"^```python\n(.*?)^```", STORY.read_text(), re.M | re.S)


@pytest.mark.parametrize("release", RELEASES)
def test_cookbook(servers, release):
    """GLM-4.5V cookbook: its seven Python blocks as they stand, addresses apart: thinking, answer, tool name and arguments are printed"""
    url, pictures = servers
    found = blocks()
    assert len(found) == 7
    code = "import openai\nprint('RELEASE', openai.__version__)\n" + "\n".join(f"print('BLOCK {i}')\n{b}" for i, b in enumerate(found, 1))
    code = code.replace("http://localhost:30000", url)
    code = re.sub(r"https://[^/\"]+", pictures, code)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": RELEASES[release], "PYTHONIOENCODING": "utf-8"})
    assert done.returncode == 0, done.stderr[-2000:]
    head, *printed = re.split(r"^BLOCK \d\n", done.stdout, flags=re.M)
    assert head.startswith(f"RELEASE {release}."), head
    for i in (0, 1, 2):
        assert f"Generated text: {scripted.ANSWER}" in printed[i], printed[i]
    assert f"= Thinking =================\n{scripted.REASONING}\n" in printed[3] and f"= Content =================\n{scripted.ANSWER}" in printed[3]
    assert f"= Thinking =================\n{scripted.REASONING}{scripted.ANSWER}" in printed[5]  # the block itself writes no line between them
    assert f"Tool Call: {scripted.NAME}\n" in printed[5] and f'Arguments: {{"{scripted.KEY}": "{scripted.VALUE}"}}' in printed[5], printed[5]
    assert scripted.ANSWER in printed[6]


TOOLS = [{"type": "function", "function": {"name": scripted.NAME, "parameters": {"type": "object", "properties": {scripted.KEY: {"type": "string"}}}}}]
ASK = dict(model="any/name", messages=[{"role": "user", "content": "What's the weather in Beijing?"}], tools=TOOLS)


def judge(message, reason):
    call, = message.tool_calls
    assert message.reasoning_content == message.reasoning == scripted.REASONING
    assert message.content.strip() == scripted.ANSWER
    assert (call.function.name, call.function.arguments) == (scripted.NAME, f'{{"{scripted.KEY}": "{scripted.VALUE}"}}')
    assert reason == "tool_calls"


class Whole:
    """A message put together from a stream."""

    def __init__(self):
        self.content, self.reasoning, self.calls, self.reason, self.usage = "", "", {}, None, None

    def add(self, chunk):
        self.usage = chunk.usage or self.usage
        for c in chunk.choices:
            self.reason = c.finish_reason or self.reason
            self.content += c.delta.content or ""
            self.reasoning += getattr(c.delta, "reasoning_content", None) or ""
            for t in c.delta.tool_calls or ():
                call = self.calls.setdefault(t.index, ["", ""])
                call[0] += t.function.name or ""
                call[1] += t.function.arguments or ""

    def judge(self):
        assert self.reasoning == scripted.REASONING and self.content.strip() == scripted.ANSWER
        assert self.calls == {0: [scripted.NAME, f'{{"{scripted.KEY}": "{scripted.VALUE}"}}']}
        assert self.reason == "tool_calls"
        assert self.usage.total_tokens == self.usage.prompt_tokens + self.usage.completion_tokens
        assert self.usage.completion_tokens == len(scripted.tokens()[1]) - 1  # what is read first is not counted, the token that ends it is


def test_whole_and_stream(servers):
    """Client: an answer in one piece and as a stream, with usage; with thinking off"""
    client = openai.OpenAI(base_url=servers[0] + "/v1", api_key="EMPTY")
    r = client.chat.completions.create(**ASK)
    judge(r.choices[0].message, r.choices[0].finish_reason)
    w = Whole()
    for chunk in client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True}):
        w.add(chunk)
    w.judge()
    assert w.usage == r.usage or w.usage.completion_tokens == r.usage.completion_tokens
    r = client.chat.completions.create(**ASK, extra_body={"chat_template_kwargs": {"enable_thinking": False}})
    assert r.choices[0].message.reasoning_content is None and r.choices[0].message.content.strip() == scripted.ANSWER


def test_async(servers):
    """Asynchronous client: eight requests at once, every second one a stream"""
    async def one(client, i):
        if i % 2:
            w = Whole()
            async for chunk in await client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True}):
                w.add(chunk)
            return w.judge()
        r = await client.chat.completions.create(**ASK)
        return judge(r.choices[0].message, r.choices[0].finish_reason)

    async def all_of_them():
        async with openai.AsyncOpenAI(base_url=servers[0] + "/v1", api_key="EMPTY") as client:
            await asyncio.gather(*(one(client, i) for i in range(8)))

    asyncio.run(all_of_them())


def test_models_and_errors(servers, tmp_path):
    """Client: models, completions with log-probabilities, and its own exceptions for a wrong name, key and field"""
    client = openai.OpenAI(base_url=servers[0] + "/v1", api_key="EMPTY", max_retries=0)
    assert client.models.list().data[0].owned_by == "glmconv"
    r = client.completions.create(model="m", prompt="hello", max_tokens=2, logprobs=1, echo=True, temperature=0)
    assert len(r.choices[0].logprobs.tokens) == r.usage.total_tokens
    with pytest.raises(openai.BadRequestError) as e:
        client.chat.completions.create(**{**ASK, "temperature": -1})
    assert e.value.param == "temperature"
    with service.serve(REFERENCE / "nano-glm4moe", "--served-model-name", "mine", "--api-key-env", "KEY_OF_TEST", env={"KEY_OF_TEST": "secret"}.items()) as url:
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=url + "/v1", api_key="wrong", max_retries=0).models.list()
        client = openai.OpenAI(base_url=url + "/v1", api_key="secret", max_retries=0)
        with pytest.raises(openai.NotFoundError):
            client.completions.create(model="other", prompt="hello")
        assert client.models.retrieve("mine").id == "mine"
