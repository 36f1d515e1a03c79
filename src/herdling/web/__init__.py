"""Pages that people use in a browser: what annotators, reviewers and admins see (Llama 2, section 3.2.1). Needs the extra `serve`; no script from elsewhere.

desk       what the pages work with: the store of preferences, the sampler, where rounds are frozen
security   headers, limits of size and rate, who may send what
sampler    two answers from two model variants, in threads of their own
pages      templates to HTML
accounts   login, invitations, people
annotate   the annotator's page and its JSON
dashboard  the numbers of a campaign, closing a round
review     what was judged, by filters: setting a judgement aside, putting it back
app        all of it as one Starlette application
"""
