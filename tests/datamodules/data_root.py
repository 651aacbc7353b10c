"""Builds a data root with a few items of every benchmark, in their exact layouts."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from tests.datamodules.benchmarks import cifar_files
from tests.datamodules.benchmarks.scan_files import NAME, write_labels, write_scan

LAMM: dict[str, dict[str, Any]] = {
    "Detection_VOC2012": {"object": [{"label": "dog", "bbox": [0.0, 0.0, 0.5, 1.0]}]},
    "VQA_SQAimage": {"gt_choice": 1, "gt_choices": ["hill", "peak"]},
    "Caption_flickr30k": {"sentences": ["Two dogs ."]},
    "Classification_CIFAR10": {"label": "ship"},
    "Facial_Classification_CelebA(Hair)": {"attr": "brown"},
    "Facial_Classification_CelebA(Smile)": {"attr": "-1"},
}
OBJECTS = {
    "Caption_scannet": "description3d",
    "VQA_scannet": "VQA3D",
    "Classification_scannet": "classification3d",
    "Classification_shapenet": "classification3d",
    "Caption_nr3d": "description3d",
}


def text(file: Path, content: str) -> None:
    """A file and the folders above it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)


def picture(file: Path) -> None:
    """A small picture."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (10, 20), "red").save(file)


def write(root: Path) -> Path:
    """The whole tree: two items of VOC, ScienceQA, Flickr30k and CelebA, one or two of the others."""
    for year, split in (("VOC2012", "val"), ("VOC2007", "test")):
        _voc(root / "VOCdevkit" / year, split)
    _scienceqa(root / "scienceqa")
    _flickr30k(root / "flickr30k")
    cifar_files.write(root / "cifar10" / "cifar-10-batches-py", [bytes(3072)] * 2, [8, 0])
    _celeba(root / "celeba")
    _coco(root / "coco")
    _scannet(root / "scannet")
    _shapenet(root / "shapenet55")
    for split, answer in LAMM.items():
        home = root / "LAMM" / "2D_Benchmark"
        picture(home / f"{split}_images" / "7.jpg")
        item = {"id": "7", "image": f"{split}_images/7.jpg", "query": "What is it?", **answer}
        text(home / "meta_file" / f"{split}.json", json.dumps([item]))
    _scan2inst(root / "Octavius" / "3D_Benchmark")
    return root


def _voc(root: Path, split: str) -> None:
    box = "<bndbox><xmin>1</xmin><ymin>6</ymin><xmax>5</xmax><ymax>20</ymax></bndbox>"
    size = "<size><width>10</width><height>20</height></size>"
    for name in ("a", "b"):
        text(
            root / "Annotations" / f"{name}.xml",
            f"<annotation>{size}<object><name>dog</name>{box}</object></annotation>",
        )
        picture(root / "JPEGImages" / f"{name}.jpg")
    text(root / "ImageSets" / "Main" / f"{split}.txt", "a\nb\n")


def _scienceqa(root: Path) -> None:
    problem = {
        "question": "Which?",
        "choices": ["hill", "peak"],
        "answer": 1,
        "image": "image.png",
        "split": "test",
    }
    text(root / "problems.json", json.dumps({"4": problem, "5": problem}))
    text(root / "pid_splits.json", json.dumps({"test": ["4", "5"]}))
    for pid in ("4", "5"):
        picture(root / "images" / "test" / pid / "image.png")


def _flickr30k(root: Path) -> None:
    images = [{"filename": f"{n}.jpg", "split": "test", "sentences": [{"raw": "A dog ."}]} for n in range(2)]
    text(root / "dataset_flickr30k.json", json.dumps({"images": images}))
    for n in range(2):
        picture(root / "flickr30k-images" / f"{n}.jpg")


def _celeba(root: Path) -> None:
    rows = "".join(f"{n}.jpg 1 -1 -1 -1 1\n" for n in range(2))
    text(root / "list_attr_celeba.txt", f"2\nBlack_Hair Blond_Hair Brown_Hair Gray_Hair Smiling\n{rows}")
    text(root / "list_eval_partition.txt", "0.jpg 2\n1.jpg 2\n")
    for n in range(2):
        picture(root / "img_align_celeba" / f"{n}.jpg")


def _coco(root: Path) -> None:
    picture(root / "val2017" / "1.jpg")
    images = [{"id": 1, "file_name": "1.jpg", "width": 10, "height": 20}]
    boxes = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "iscrowd": 0}]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "dog"}]}
    text(root / "annotations" / "instances_val2017.json", json.dumps(content))
    told = {"images": images, "annotations": [{"id": 1, "image_id": 1, "caption": "A dog."}]}
    text(root / "annotations" / "captions_val2017.json", json.dumps(told))


def _scannet(root: Path) -> None:
    for name in (NAME, "scene0001_00"):
        write_scan(root, name=name)
    write_labels(root)
    text(root / "scannetv2_val.txt", f"{NAME}\nscene0001_00\n")
    described = {
        "scene_id": NAME,
        "object_id": "1",
        "object_name": "table",
        "ann_id": "0",
        "description": "low",
    }
    text(root / "ScanRefer" / "ScanRefer_filtered_val.json", json.dumps([described]))
    asked = {"scene_id": NAME, "question_id": "val-0", "question": "What?", "answers": ["table"]}
    text(root / "qa" / "ScanQA_v1.0_val.json", json.dumps([asked]))
    text(
        root / "ReferIt3D" / "nr3d.csv",
        "scan_id,target_id,utterance\nscene0001_00,1,the low one\nscene9_00,1,it\n",
    )


def _shapenet(root: Path) -> None:
    text(root / "shapenet-55" / "test.txt", "02691156-1a.npy\n")
    text(root / "shapenet_synset_dict.json", json.dumps({"02691156": "airplane"}))
    (root / "shapenet_pc").mkdir()
    np.save(root / "shapenet_pc" / "02691156-1a.npy", np.vstack([np.eye(3), -np.eye(3)]).astype("float32"))


def _scan2inst(root: Path) -> None:
    said = [{"from": "human", "value": "What is it?"}, {"from": "gpt", "value": "A bed."}]
    feature, edges = torch.ones(768).half(), torch.tensor([0.0, 1, 0, 2, 2, 1]).half()
    for split, kind in OBJECTS.items():
        item = {
            "scene_id": NAME,
            "object_id": 3,
            "object_name": "bed",
            "task_type": kind,
            "conversations": said,
        }
        text(root / "meta_file" / f"{split}.json", json.dumps([item]))
        stored = {
            "caption_list": [said],
            "scene_id_list": [NAME],
            "vision_embeds_3d_ref_list": [feature],
            "vision_embeds_3d_scene_prop_list": [torch.stack([feature, feature])],
            "vision_pos_3d_ref_list": [edges],
            "vision_pos_3d_scene_prop_list": [torch.stack([edges, edges])],
        }
        (root / "meta_file" / f"{split}.pickle").write_bytes(pickle.dumps(stored))
