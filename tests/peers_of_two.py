"""What each of two processes does for test_peers: the gradients of its share of a batch, for every peer in each of its stages."""

import json
import os

import torch
import torch.distributed
from safetensors.torch import save_file
from steps import CLASSES, gradients, in_parts, stages_of, uneven_batch

from dsgc.methods import configured
from dsgc.network.build import build_network
from dsgc.runs import parallel
from dsgc.runs.parallel import accelerator_of


def one_of_two(folder, number):
    """With a folder that has a config for each method, NAME.json; into it go this process's gradients and losses."""
    torch.set_num_threads(1)
    places = {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    os.environ |= places  # as a launcher says it, for accelerate
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=number, world_size=2)
    configs = {path.stem: configured(json.loads(path.read_text())) for path in sorted(folder.glob("*.json"))}
    accelerator_of(next(iter(configs.values())))
    share = parallel.rank_and_size()
    assert share == (number, 2)
    for name, config in configs.items():
        torch.manual_seed(0)
        pair = [build_network(config, CLASSES)[0] for _ in range(2)]
        for stage in stages_of(config):
            made, found = gradients(pair, in_parts(uneven_batch(), 2, share), stage, config)
            losses = {f"losses.{loss}": value for loss, value in made.losses.items()}
            save_file(found | losses, folder / f"{name}-{stage}-{share[0]}.safetensors")
    torch.distributed.destroy_process_group()
