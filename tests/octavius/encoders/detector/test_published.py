"""Files with the names and shapes of published detectors are loaded into detectors of ours."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from octavius.encoders.detector.detector import Design, Detector, HeadName
from octavius.encoders.detector.published import import_published

CLASSES = tuple("abcdefghijklmnopqr")
SMALL = Design(widths=(4, 8, 8, 8), blocks=(3, 4, 6, 3), stem=4, channels=6)
"""The published shape with few channels: names depend on the blocks, sizes on the channels."""

BN = ("weight", "bias", "running_mean", "running_var")


def norm(name: str, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    for part in BN:
        yield f"{name}.bn.{part}", (width,)
    yield f"{name}.bn.num_batches_tracked", ()


def backbone(widths: tuple[int, ...], stem: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """All but the stem, as both families name it."""
    before = stem
    for stage, (width, count) in enumerate(zip(widths, (3, 4, 6, 3), strict=True), start=1):
        for block in range(count):
            own = f"backbone.layer{stage}.{block}"
            yield f"{own}.conv1.kernel", (27, before, width)
            yield from norm(f"{own}.norm1", width)
            yield f"{own}.conv2.kernel", (27, width, width)
            yield from norm(f"{own}.norm2", width)
            if block == 0:
                yield f"{own}.downsample.0.kernel", (1, before, width)
                yield from norm(f"{own}.downsample.1", width)
            before = width


def fcaf3d(family: str, design: Design = SMALL) -> dict[str, tuple[int, ...]]:
    """Section by section as the module definitions of SamsungLabs/fcaf3d (`authors`) and MMDetection3D have it."""
    authors = family == "authors"
    widths, stem, out = design.widths or (64, 128, 256, 512), design.stem, design.channels
    head = "neck_with_head" if authors else "bbox_head"
    conv, inner = (
        ("backbone.conv1.0", "backbone.conv1.1") if authors else ("backbone.conv1", "backbone.norm1")
    )
    shapes = {f"{conv}.kernel": (27, 3, stem), f"{inner}.weight": (1, stem), f"{inner}.bias": (1, stem)}
    shapes |= dict(backbone(widths, stem))
    for level, width in enumerate(widths):
        if level:
            up = f"{head}.up_block_{level}"
            shapes |= {
                f"{up}.0.kernel": (8, width, widths[level - 1]),
                **dict(norm(f"{up}.1", widths[level - 1])),
            }
            shapes[f"{up}.3.kernel"] = (27, widths[level - 1], widths[level - 1])
            shapes |= dict(norm(f"{up}.4", widths[level - 1]))
        shapes[f"{head}.out_block_{level}.0.kernel"] = (27, width, out)
        shapes |= dict(norm(f"{head}.out_block_{level}.1", out))
        shapes[f"{head}.scales.{level}.scale"] = ()
    centre, reg, cls = (
        ("centerness_conv", "reg_conv", "cls_conv") if authors else ("conv_center", "conv_reg", "conv_cls")
    )
    shapes |= {f"{head}.{centre}.kernel": (out, 1), f"{head}.{reg}.kernel": (out, 6)}
    return shapes | {f"{head}.{cls}.kernel": (out, 18), f"{head}.{cls}.bias": (1, 18)}


def tr3d(family: str) -> dict[str, tuple[int, ...]]:
    """As SamsungLabs/tr3d (`authors`) and MMDetection3D have it."""
    assert SMALL.widths is not None
    widths, stem, out = SMALL.widths, SMALL.stem, SMALL.channels
    head = "head" if family == "authors" else "bbox_head"
    reg, cls = ("bbox_conv", "cls_conv") if family == "authors" else ("conv_reg", "conv_cls")
    shapes: dict[str, tuple[int, ...]] = {"backbone.conv1.kernel": (27, 3, stem)}
    shapes |= dict(norm("backbone.norm1", stem)) | dict(backbone(widths, stem))
    for level, width in enumerate(widths[1:]):
        blocks = [("up", width, widths[level])] if level else []
        blocks += [("lateral", width, width), ("out", width, out)] if level < 2 else []
        for kind, here, there in blocks:
            shapes[f"neck.{kind}_block_{level}.0.kernel"] = (27, here, there)
            shapes |= dict(norm(f"neck.{kind}_block_{level}.1", there))
    shapes |= {f"{head}.{reg}.kernel": (out, 6), f"{head}.{reg}.bias": (1, 6)}
    return shapes | {f"{head}.{cls}.kernel": (out, 18), f"{head}.{cls}.bias": (1, 18)}


SHAPES = {"fcaf3d": fcaf3d, "tr3d": tr3d}


def fabricated(path: Path, shapes: dict[str, tuple[int, ...]], prefix: str = "") -> dict[str, Tensor]:
    """Writes a file as mmcv does, filled by chance."""
    torch.manual_seed(0)
    tensors = {
        f"{prefix}{name}": torch.tensor(7) if name.endswith("tracked") else torch.rand(shape)
        for name, shape in shapes.items()
    }
    torch.save({"meta": {"epoch": 12}, "state_dict": tensors, "optimizer": {"state": {}}}, path)
    return tensors


def test_the_full_size_has_the_published_number_of_entries() -> None:
    shapes = fcaf3d("mmdetection3d", Design())
    with torch.device("meta"):
        model = Detector(CLASSES)
    assert len(shapes) == len(model.state_dict()) == 287
    ours = {
        name.replace("head.", "bbox_head.", 1): tuple(value.shape)
        for name, value in model.state_dict().items()
    }
    assert ours == shapes


@pytest.mark.parametrize("head", ["fcaf3d", "tr3d"])
@pytest.mark.parametrize("family", ["authors", "mmdetection3d"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_every_tensor_of_a_file_is_taken(head: HeadName, family: str, prefix: str, tmp_path: Path) -> None:
    tensors = fabricated(tmp_path / "file.pth", SHAPES[head](family), prefix)
    model = Detector(CLASSES, head, SMALL)
    import_published(tmp_path / "file.pth", model)
    state = model.state_dict()
    assert len(state) == len(tensors)
    # told apart by their sums, as all are drawn by chance
    assert sorted(float(value.sum()) for value in state.values()) == sorted(
        float(value.sum()) for value in tensors.values()
    )
    same = ["backbone.layer3.5.conv2.kernel", "backbone.layer1.0.downsample.0.kernel"]
    for name in same:
        assert torch.equal(state[name], tensors[f"{prefix}{name}"])
    cls = [value for name, value in tensors.items() if "cls" in name and name.endswith("kernel")]
    assert torch.equal(state["head.conv_cls.kernel"], cls[0])


def test_a_file_of_another_detector_is_refused(tmp_path: Path) -> None:
    fabricated(tmp_path / "file.pth", tr3d("authors"))
    with pytest.raises(
        ValueError, match=r"weights of this fcaf3d with 18 classes: \d+ missing: .* unknown: "
    ):
        import_published(tmp_path / "file.pth", Detector(CLASSES, "fcaf3d", SMALL))


def test_a_file_of_other_classes_is_refused_with_the_sizes(tmp_path: Path) -> None:
    fabricated(tmp_path / "file.pth", tr3d("mmdetection3d"))
    model = Detector(CLASSES[:5], "tr3d", SMALL)
    before = model.head.conv_cls.kernel.clone()
    with pytest.raises(ValueError, match=r"of another size: .*conv_cls\.bias \(1, 18\) for \(1, 5\)"):
        import_published(tmp_path / "file.pth", model)
    assert torch.equal(model.head.conv_cls.kernel, before)


def test_files_without_weights_are_refused(tmp_path: Path) -> None:
    model = Detector(CLASSES, "tr3d", SMALL)
    with pytest.raises(ValueError, match="no file of published weights"):
        import_published(tmp_path / "none.pth", model)
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(ValueError, match="no weights that can be read safely"):
        import_published(tmp_path / "text.pth", model)
    torch.save({"state_dict": {}}, tmp_path / "empty.pth")
    with pytest.raises(ValueError, match="expected a dictionary of tensors"):
        import_published(tmp_path / "empty.pth", model)
