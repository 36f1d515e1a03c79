import pytest
import torch

from herdling.model.config import LlamaConfig
from herdling.model.reward import RewardModel
from herdling.model.transformer import Llama


@pytest.fixture
def llama():
    config = LlamaConfig(
        vocab_size=61, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
        max_position_embeddings=64,
    )  # fmt: skip
    model = Llama(config)
    model.init_weights(0)
    return model


def test_a_value_is_the_head_times_the_hidden_state_of_its_position(llama):
    reward, ids = RewardModel.from_llama(llama, seed=1), torch.arange(10).view(2, 5)
    with torch.no_grad():
        hidden, values = llama(ids), reward(ids)
    assert values.shape == (2, 5)
    torch.testing.assert_close(values, (hidden * reward.score.weight[0]).sum(-1))


def test_the_body_is_taken_over_and_the_output_matrix_is_not(llama):
    reward = RewardModel.from_llama(llama, seed=1)
    assert reward.model is llama.model
    names = set(dict(reward.named_parameters()))
    assert "score.weight" in names
    assert "lm_head.weight" not in names
    assert not any(weight.is_meta for weight in reward.parameters())


def test_the_first_head_is_normal_with_variance_one_over_inputs_plus_one():
    config = LlamaConfig(
        vocab_size=8, hidden_size=4096, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1, head_dim=2,
        max_position_embeddings=8,
    )  # fmt: skip
    llama = Llama(config)
    weight = RewardModel.from_llama(llama, seed=1).score.weight.detach()
    assert weight.std().item() == pytest.approx(4097**-0.5, rel=0.05)
    assert abs(weight.mean().item()) < 3 * (4097 * 4096) ** -0.5
    assert torch.equal(weight, RewardModel.from_llama(llama, seed=1).score.weight)
    assert not torch.equal(weight, RewardModel.from_llama(llama, seed=2).score.weight)


def test_values_of_a_bfloat16_model_are_summed_in_float32(llama):
    reward, ids = RewardModel.from_llama(llama, seed=1).bfloat16(), torch.arange(10).view(2, 5)
    with torch.no_grad():
        values, hidden = reward(ids), llama.bfloat16()(ids)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, (hidden.double() * reward.score.weight[0].double()).sum(-1).float(), rtol=1e-5, atol=1e-6)
