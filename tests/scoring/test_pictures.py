"""Pictures that a result keeps: small files in text that give back the very maps."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from dsgc.data.loading import EvalImages
from dsgc.data.palette import coloured
from dsgc.data.split import open_split
from dsgc.scoring import pictures
from dsgc.scoring.evaluate import collate, views


@pytest.fixture(scope="module")
def dataset(shapes_folder):
    return EvalImages(open_split(shapes_folder, "val"))


def opened(png):
    return Image.open(io.BytesIO(base64.b64decode(png)))


def test_samples_give_back_what_the_network_sees(pair, dataset, fixed):
    network, config = pair[0].eval(), fixed(pictures=2)
    samples = pictures.encoded(network, dataset, config, "cpu")
    assert list(samples) == [*dataset.folder.ids[:2]]
    for index, maps in enumerate(samples.values()):
        images, tags, masks = collate([dataset[index]], "cpu")
        view = views(network, images, tags, config)
        assert {name: pictures.decoded(png).dtype for name, png in maps.items()} == dict.fromkeys(maps, np.uint8)
        assert (pictures.decoded(maps["pseudo"]) == view.scored["pseudo"][0].numpy()).all() and (view.scored["pseudo"] == 255).any()
        assert (pictures.decoded(maps["prediction"]) == view.scored["seg"][0].numpy()).all()
        cam = pictures.decoded(maps["cam"]) / 255
        assert cam.shape == masks.shape[1:] and 0.9 < cam.max() <= 1
        assert abs(cam - view.drawn["cam"][0].numpy()).max() <= 0.5 / 255 + 1e-6


def test_labels_have_the_colours_of_voc_and_the_cam_is_grey(pair, dataset, fixed):
    (maps,) = pictures.encoded(pair[0].eval(), dataset, fixed(pictures=1), "cpu").values()
    assert {name: (opened(png).format, opened(png).mode) for name, png in maps.items()} == {
        "cam": ("PNG", "L"), "pseudo": ("PNG", "P"), "prediction": ("PNG", "P"),
    }  # fmt: skip
    for name in ("pseudo", "prediction"):
        assert (np.asarray(opened(maps[name]).convert("RGB")) == coloured(pictures.decoded(maps[name]))).all()


@pytest.mark.parametrize(("wanted", "kept"), [(0, 0), (3, 3), (100, 4)])
def test_there_are_as_many_samples_as_asked_for_and_as_there_are_images(pair, dataset, fixed, wanted, kept):
    assert len(pictures.encoded(pair[0].eval(), dataset, fixed(pictures=wanted), "cpu")) == kept


@pytest.mark.parametrize(("method", "kept"), [("base", ["cam", "pseudo", "prediction"]), ("masks", ["prediction"])])
def test_samples_are_of_what_the_method_has(pair, dataset, fixed, method, kept):
    (maps,) = pictures.encoded(pair[0].eval(), dataset, fixed(method, pictures=1), "cpu").values()
    assert list(maps) == kept


@pytest.mark.parametrize(("method", "panels"), [("dsgc", 8), ("base", 5), ("masks", 3)])
def test_a_picture_has_a_row_for_each_network_and_what_the_method_draws(pair, dataset, fixed, tmp_path, method, panels):
    config = fixed(method, pictures=1)
    networks = dict(zip(config.method.networks, pair, strict=False))
    pictures.write(tmp_path / "pictures", networks, dataset, config, "cpu")
    item = dataset[0]
    height, width = item.mask.shape
    written = np.asarray(Image.open(tmp_path / f"pictures/{item.image_id}.png"))
    assert written.shape == (height * len(networks), width * panels, 3)
    for row in np.split(written, len(networks)):
        assert (row[:, :width] == item.image.permute(1, 2, 0).numpy()).all() and (row[:, -width:] == coloured(item.mask)).all()
