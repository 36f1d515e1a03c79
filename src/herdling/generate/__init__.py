"""From a prompt to text: the sampler, the engine with its cache of keys and values, streams that never break a character, and chats.

sampling     logits and a random number to a token
decode       the model's step for one new token a row, with prepared weights
engine       many requests through one model
stream       ids to text as it grows, stop strings
chat         a dialog through a model
fingerprint  what a model on disk is known by
loaded       what `herdling.load` returns
generator    the protocol of all that answers a dialog, and models that load when first asked
gated_reward one reward of a helpfulness and a safety model
remote       an OpenAI-compatible server behind that protocol
"""
