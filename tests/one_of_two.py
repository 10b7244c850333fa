"""What each of two processes does for test_step: the gradients of its share of a batch, and a command of the package.

Arguments: a folder with a config.json, and the words of the command. Into the folder go this process's gradients and the
paths below it that the command wrote to.
"""

import json
import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from steps import CLASSES, gradients, in_parts, uneven_batch

from dsgc.__main__ import main
from dsgc.network.build import build_network
from dsgc.runs import parallel
from dsgc.runs.parallel import accelerator_of
from dsgc.runs.record import read_config

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir")


def one_of_two(folder, words):
    written = []

    def note(event, given):
        if event in CHANGES or (event == "open" and given[2] & WRITING):
            written.append(os.path.abspath(os.fsdecode(given[0])) if isinstance(given[0], str | bytes | os.PathLike) else "")

    torch.set_num_threads(1)
    config = read_config(folder)
    accelerator_of(config)  # the two meet here
    share = parallel.rank_and_size()
    torch.manual_seed(0)
    pair = [build_network(config, CLASSES)[0] for _ in range(2)]
    made, found = gradients(pair, in_parts(uneven_batch(), 2, share), "expansion", config)
    save_file(found | {"projected": made.watched["projected"]} | made.losses, folder / f"gradients{share[0]}.safetensors")
    sys.addaudithook(note)
    code = main(words)
    below = sorted({path for path in written if path.startswith(str(folder))})
    (folder / f"written{share[0]}.json").write_text(json.dumps(below))
    return code


if __name__ == "__main__":
    sys.exit(one_of_two(Path(sys.argv[1]), sys.argv[2:]))
