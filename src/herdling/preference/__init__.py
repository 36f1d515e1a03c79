"""People's preferences: what to ask next, what was said, and how a round becomes an artifact (Llama 2, section 3.2.1; Llama 3, section 4.2.1).

Starts without torch. `rating`, `campaign` and `agreement` are plain values and numbers; the rest stands on SQL and needs the extra `serve`.
"""
