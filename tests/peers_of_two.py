"""What each of two processes does for test_peers: the gradients of its share of a batch, for every peer in each of its stages.

Argument: a folder with a config.json for each method, NAME.json; into it go this process's gradients and losses.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from steps import CLASSES, gradients, in_parts, stages_of, uneven_batch

from dsgc.methods import configured
from dsgc.network.build import build_network
from dsgc.runs import parallel
from dsgc.runs.parallel import accelerator_of


def one_of_two(folder):
    torch.set_num_threads(1)
    configs = {path.stem: configured(json.loads(path.read_text())) for path in sorted(folder.glob("*.json"))}
    accelerator_of(next(iter(configs.values())))  # the two meet here
    share = parallel.rank_and_size()
    for name, config in configs.items():
        torch.manual_seed(0)
        pair = [build_network(config, CLASSES)[0] for _ in range(2)]
        for stage in stages_of(config):
            made, found = gradients(pair, in_parts(uneven_batch(), 2, share), stage, config)
            losses = {f"losses.{loss}": value for loss, value in made.losses.items()}
            save_file(found | losses, folder / f"{name}-{stage}-{share[0]}.safetensors")


if __name__ == "__main__":
    one_of_two(Path(sys.argv[1]))
