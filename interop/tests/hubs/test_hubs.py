"""The clients of hubs and stores against our own servers, which our own client is tested with: what they read and write has to be the same bytes."""
import contextlib
import filecmp
import json
import os
import pathlib
import subprocess
import sys

import boto3
import pytest
from botocore.config import Config

from checkpoints import BIN, REFERENCE, ROOT

PEER = ["huggingface_hub", "modelscope_hub", "boto3"]
FAKES = ROOT / "bin" / "interop-fakes"
HF = pathlib.Path(sys.prefix) / "bin" / "hf"
NAME = "org/nano-glm4moe"
MODEL = REFERENCE / "nano-glm4moe"
TOKEN = "hf_canary4711"


class Servers:
    def __init__(self, process):
        self.process = process
        self.at = json.loads(process.stdout.readline())

    def log(self):
        """The requests since the last call, by server."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def env(self, home):
        """The environment of a client: nothing of the machine's own hub settings, and no way out."""
        keep = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING", "MODELSCOPE", "AWS_", "TRANSFORMERS_"))}
        return dict(keep, HF_ENDPOINT=self.at["hub"], HF_HOME=str(home), HF_TOKEN=TOKEN, HF_HUB_DISABLE_XET="1", HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_UPDATE_CHECK="1",
                    DO_NOT_TRACK="1", NO_PROXY="*", MODELSCOPE_ENDPOINT=self.at["modelscope"], MODELSCOPE_CACHE=str(home / "modelscope"), MODELSCOPE_HOME=str(home / "ms-home"),
                    AWS_ENDPOINT_URL=self.at["s3"], AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="secret-canary", AWS_REGION="us-east-1", AWS_DEFAULT_REGION="us-east-1",
                    PATH=f"{HF.parent}:{os.environ['PATH']}")


@contextlib.contextmanager
def fakes(name, folder=None):
    p = subprocess.Popen([str(FAKES), name, *([str(folder)] if folder else [])], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Servers(p)
    finally:
        p.stdin.close()
        assert p.wait(10) == 0


@pytest.fixture()
def servers():
    with fakes(NAME, MODEL) as s:
        yield s


def run(words, env, **options):
    done = subprocess.run([str(w) for w in words], env=env, capture_output=True, text=True, timeout=120, **options)
    assert done.returncode == 0, f"{words}: {done.stdout[-1500:]}{done.stderr[-1500:]}"
    return done.stdout


def files(folder, without=()):
    return sorted(p.name for p in pathlib.Path(folder).iterdir() if p.is_file() and p.name not in without)


def same(a, b, without=()):
    assert files(a, without) == files(b, without)
    different = [n for n in files(a, without) if not filecmp.cmp(pathlib.Path(a) / n, pathlib.Path(b) / n, shallow=False)]
    assert not different


def without_source(folder):
    """A result's manifest but for where the source was."""
    m = json.loads((pathlib.Path(folder) / "glmconv-manifest.json").read_text())
    m.pop("source", None)
    return m


def same_result(a, b):
    same(a, b, without={"glmconv-manifest.json"})
    assert without_source(a) == without_source(b)


def test_hf_download(servers, tmp_path):
    """hf download from the fake hub: the folder's bytes, redirects without the token; glmconv reads the cache that it made, by address and as a folder, and hf:// itself: the result of the folder"""
    env = servers.env(tmp_path / "home")
    snapshot = pathlib.Path(run([HF, "download", NAME], env).strip().splitlines()[-1].partition("path:")[2].strip())
    same(MODEL, snapshot)
    log = servers.log()["hub"]
    data = [r for r in log if r["Host"] == "data"]
    assert data and not any(r["Auth"] for r in data), "the token went to the host of the data"
    assert any(r["Auth"] == f"Bearer {TOKEN}" for r in log if r["Host"] == "hub")
    run([BIN, "quantize", "--scheme", "w8a8", MODEL, tmp_path / "local"], env)
    run([BIN, "quantize", "--scheme", "w8a8", f"hf-cache://{NAME}", tmp_path / "cached"], env)
    run([BIN, "quantize", "--scheme", "w8a8", snapshot, tmp_path / "snapshot"], env)
    run([BIN, "quantize", "--scheme", "w8a8", f"hf://{NAME}", tmp_path / "remote"], env)
    for other in ("cached", "snapshot", "remote"):
        same_result(tmp_path / "local", tmp_path / other)


@pytest.mark.full
def test_no_network(servers, tmp_path):
    """hf download, then no network at all (a namespace of its own): inspect, plan, quantize, check and verify of hf:// with --offline, and of hf-cache://"""
    cut = ["unshare", "--net", "--map-root-user"] if os.geteuid() else ["unshare", "--net"]
    env = servers.env(tmp_path / "home")
    run([HF, "download", NAME], env)
    run([BIN, "quantize", "--scheme", "w8a8", MODEL, tmp_path / "local"], env)
    servers.log()
    for address, flags in ((f"hf://{NAME}", ["--offline"]), (f"hf-cache://{NAME}", [])):
        out = tmp_path / address.partition(":")[0]
        for words in (["inspect"], ["check"], ["plan", "--scheme", "w8a8"]):
            run([*cut, BIN, *words, *flags, address], env)
        run([*cut, BIN, "quantize", *flags, "--scheme", "w8a8", address, out], env)
        same_result(tmp_path / "local", out)
        run([*cut, BIN, "verify", *flags, address, out], env)
    assert not servers.log()["hub"]


def test_modelscope_download(servers, tmp_path):
    """HubApi().download_repo from the fake ModelScope: the folder's bytes; glmconv converts its cache, and ms:// itself, to the result of the folder"""
    env = dict(servers.env(tmp_path / "home"), MODELSCOPE_API_TOKEN="ms-canary")
    code = "import sys; from modelscope_hub import HubApi; print(HubApi().download_repo(sys.argv[1], \"model\"))"
    folder = pathlib.Path(run([sys.executable, "-c", code, NAME], env).strip().splitlines()[-1])
    same(MODEL, folder, without={".msc", ".mv", ".mdl"})
    run([BIN, "quantize", "--scheme", "w8a8", MODEL, tmp_path / "local"], env)
    run([BIN, "quantize", "--scheme", "w8a8", folder, tmp_path / "cached"], env)
    run([BIN, "quantize", "--scheme", "w8a8", f"ms://{NAME}", tmp_path / "remote"], env)
    for other in ("cached", "remote"):
        same_result(tmp_path / "local", tmp_path / other)


def test_boto3(servers, tmp_path):
    """boto3 reads the objects that glmconv wrote into the fake store, conditions and ranges included, and writes the ones that glmconv reads"""
    env = servers.env(tmp_path / "home")
    bucket = servers.at["bucket"]
    s3 = boto3.client("s3", endpoint_url=servers.at["s3"], aws_access_key_id="test", aws_secret_access_key="secret-canary", region_name="us-east-1", config=Config(s3={"addressing_style": "path"}))
    run([BIN, "quantize", "--scheme", "w8a8", MODEL, tmp_path / "local"], env)
    for name in files(MODEL):  # under its own checksums
        s3.upload_file(str(MODEL / name), bucket, f"written/{name}")
    run([BIN, "quantize", "--scheme", "w8a8", f"s3://{bucket}/written", tmp_path / "written"], env)
    same_result(tmp_path / "local", tmp_path / "written")
    run([BIN, "quantize", "--scheme", "w8a8", f"s3://{bucket}/{NAME}", f"s3://{bucket}/result"], env)
    listed = [o["Key"] for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="result/", PaginationConfig={"PageSize": 3}) for o in page["Contents"]]
    (tmp_path / "bucket").mkdir()
    for key in listed:
        s3.download_file(bucket, key, str(tmp_path / "bucket" / key.removeprefix("result/")))
    same_result(tmp_path / "local", tmp_path / "bucket")
    assert not s3.list_multipart_uploads(Bucket=bucket).get("Uploads")
    shard = next(k for k in listed if k.endswith(".safetensors"))
    head = s3.get_object(Bucket=bucket, Key=shard, Range="bytes=0-7", IfMatch=s3.head_object(Bucket=bucket, Key=shard)["ETag"])
    assert head["Body"].read() == (tmp_path / "local" / pathlib.Path(shard).name).read_bytes()[:8]
    with pytest.raises(s3.exceptions.ClientError) as refused:
        s3.get_object(Bucket=bucket, Key=shard, IfMatch='"of another object"')
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412


def test_push(tmp_path):
    """glmconv push --run: hf upload itself writes a result to the fake hub, large files whole and in parts; hf download and glmconv check read it back"""
    with fakes("org/result") as servers:
        env = servers.env(tmp_path / "home")
        run([BIN, "quantize", "--scheme", "w8a8", MODEL, tmp_path / "dst"], env)
        run([BIN, "push", "--run", "--base", "org/base", tmp_path / "dst", "hf://org/result"], env)
        log = servers.log()["hub"]
        assert sum(r["Method"] == "PUT" and r["Host"] == "data" for r in log) > len(list((tmp_path / "dst").glob("*.safetensors"))), "no file came in parts"
        run([HF, "download", "org/result", "--local-dir", tmp_path / "back"], env)
        same(tmp_path / "dst", tmp_path / "back")
        assert "base_model: org/base" in (tmp_path / "back" / "README.md").read_text()
        run([BIN, "check", "hf://org/result"], env)
