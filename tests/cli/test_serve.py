import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

import herdling
from herdling.base.errors import ModelError
from herdling.checkpoint.huggingface import save_model
from herdling.cli.serve import reward_in
from herdling.model.config import LlamaConfig
from herdling.model.reward import RewardModel
from herdling.model.transformer import Llama
from tests.data.toy_comparisons import toy_format
from tests.stages.toy_training import MODEL

MESSAGES = [{"role": "user", "content": "the item"}, {"role": "assistant", "content": "a key"}]


def test_the_command_serves_the_scores_of_the_model(tmp_path):
    chat, llama = toy_format(), Llama(LlamaConfig(**MODEL))
    llama.init_weights(0)
    save_model(tmp_path / "reward", RewardModel.from_llama(llama, seed=0), chat.tokenizer, chat)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "from herdling.cli.main import main; main()", "serve", str(tmp_path / "reward"), "--port", str(port)]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert f"http://127.0.0.1:{port}/v1/score" in server.stderr.readline()
        found = None
        deadline = time.monotonic() + 30
        while found is None and time.monotonic() < deadline:
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/v1/score", json.dumps({"messages": MESSAGES}).encode(), {"Content-Type": "application/json"}
            )
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    found = json.loads(answer.read())
            except urllib.error.URLError:  # not listening yet
                time.sleep(0.05)
        assert found["scores"] == pytest.approx([herdling.load(tmp_path / "reward").score(MESSAGES)], abs=1e-6)
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=30) in (0, 130)
        server.stderr.close()


def test_a_run_means_its_one_reward_model_and_is_refused_with_none_or_several(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    assert reward_in(run) == run
    (run / "recipe.json").write_text("{}")
    with pytest.raises(ModelError, match="holds no finished reward model"):
        reward_in(run)
    for name, kind in (("sft", "model"), ("helpful", "reward")):
        (run / name).mkdir()
        (run / name / "manifest.json").write_text(json.dumps({"format": 1, "output": kind}))
    assert reward_in(run) == run / "helpful"
    (run / "safety").mkdir()
    (run / "safety" / "manifest.json").write_text(json.dumps({"format": 1, "output": "reward"}))
    with pytest.raises(ModelError, match=r"holds 2 reward models: .*helpful, .*safety"):
        reward_in(run)
    with pytest.raises(ModelError, match="is not there"):
        reward_in(tmp_path / "nothing")
