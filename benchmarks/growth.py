"""How do time and memory of a training step grow with images, tokens and classes?

Steps of the expansion stage of a ViT-Ti/16 at 224 with 4 images and 20 classes, one of the three changed at a time. The
exponent of a power law is fitted to each, so that a reader can reckon what COCO's 80 classes or a larger crop will cost.
Writes `benchmarks/growth.json`.

    python benchmarks/growth.py
"""

import sys
import time
from statistics import median

import dsgc  # noqa: F401, isort: skip; before torch, whose threads then share the cores with others
import torch
from measure import alternate, exponent, peak_memory, report_peak, write
from multiscale import CONFIG, Setting

AGAINST = {"images": (1, 2, 4, 8, 16), "tokens": (49, 100, 196, 400, 784), "classes": (5, 20, 80, 240)}
USUAL = {"images": 4, "tokens": 196, "classes": 20}


def setting(against: str, size: int) -> Setting:
    numbers = USUAL | {against: size}
    side = 16 * round(numbers["tokens"] ** 0.5)
    config = CONFIG.changed(encoder="vit_tiny_patch16_224", crop_size=side, batch_size=numbers["images"])
    return Setting(config, numbers["classes"])


def main() -> None:
    begun, lines = time.monotonic(), []
    for against, sizes in AGAINST.items():
        seconds = [median(values) for values in alternate({size: setting(against, size).ours for size in sizes}).values()]
        memory = [peak_memory(__file__, against, str(size)) for size in sizes]
        line = {"of": "training step", "against": against, "sizes": sizes, "seconds": seconds, "MiB": memory}
        lines.append(line | {"exponent": exponent(sizes, seconds), "memory_exponent": exponent(sizes, memory)})
        print(lines[-1], flush=True)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    write(__file__, {"question": "Growth of a training step", "device": device, "growth": lines}, begun)


if __name__ == "__main__":
    if len(sys.argv) == 3:  # a process of `peak_memory`
        one = setting(sys.argv[1], int(sys.argv[2]))
        one.ours()  # what is made once is there from now on
        report_peak(one.ours)
    else:
        main()
