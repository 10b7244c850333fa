"""Results that tests put where runs would leave them, and runs that are handed out but not made."""

import json

from dsgc.experiments import runner, stored


def store(config, folder, of, **about):
    """Write the result `of` as one of this configuration, with other facts about it."""
    result = of._replace(config=stored.described(config), about=of.about | about)
    stored.path_of(config, folder).write_text(json.dumps(result._asdict() | {"digest": stored.digest(result)}))


def handed_out(monkeypatch, act=lambda *_: None):
    """Runs are not made: a list of the arguments that each process would get, in the order in which they come."""
    seen = []
    monkeypatch.setattr(runner, "apart", lambda *given, grows: seen.append(given) or act(*given))
    return seen
