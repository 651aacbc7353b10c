"""Points on the surface of meshes: OBJ with materials, OFF and STL, read by trimesh.

Designers' meshes have few vertices, and these where the shape is complicated. Points that are spread evenly over
the surface are what encoders were trained with. Meshes of scans in PLY files have dense vertices, which are used
themselves (`octavius.media.ply`).
"""

import re
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from octavius.files import open_file, read_bytes
from octavius.instruction.sample import Media
from octavius.media.pictures import open_picture

FEWEST = 8192
"""Points of a mesh that has fewer vertices than this; of others, as many as it has vertices."""

GREY = 0.4
"""Colour of clouds, and of parts of meshes, without colours, as ULIP-2's point encoders were trained with."""

_COLOURED = re.compile(rb"^v([ \t]+[^\s]+){6}[ \t]*\r?$", re.MULTILINE)
_MATERIALS = re.compile(rb"^mtllib[ \t]+([^\r\n]+)", re.MULTILINE)


def read_mesh(path: Path, form: str) -> np.ndarray:
    """Points (P, 3) on the surface of a mesh, or with colours in 0..1 (P, 6); of an OBJ without faces, its vertices.

    The points are drawn with a fixed seed. Parts without colours are grey if others have some.

    Args:
        path: the file.
        form: `obj`, `off` or `stl`.

    Raises:
        ValueError: the file is malformed, has no surface, or materials or textures that it names are missing.
    """
    import trimesh  # takes half a second, and few files need it

    with open_file(path) as file:
        content = file.read()
    beside = _Beside(path.parent if path.suffix.lower() == ".obj" else None)
    named = _MATERIALS.search(content) if form == "obj" else None
    plain = (
        named is None or _COLOURED.search(content) is not None
    )  # colours of vertices come before materials
    options: dict[str, Any] = {"resolver": beside, "skip_materials": plain} if form == "obj" else {}
    try:
        scene = trimesh.load_scene(BytesIO(content), file_type=form, process=False, **options)
        if beside.missing:
            raise ValueError(
                f"it needs {', '.join(beside.missing)[:200]}, which cannot be read beside it; copy these files into "
                "its folder, or remove the line `mtllib` for a grey cloud"
            )
        return _points(scene.dump())
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as a mesh: {str(error)[:400]}") from None
    except Exception as error:  # trimesh raises almost anything on damaged files
        raise ValueError(
            f"{path} cannot be read as a mesh ({type(error).__name__}: {error!s:.200})"
        ) from None


class _Beside:
    """Materials and textures in the folder of an OBJ file, as trimesh asks for them.

    Attributes:
        missing: the names of files that could not be read; trimesh goes on without them.
    """

    def __init__(self, folder: Path | None) -> None:
        """Reads nothing.

        Args:
            folder: the folder; None if there are no files beside the mesh.
        """
        self.folder, self.missing = folder, list[str]()

    def get(self, name: str) -> bytes:
        """The content of a file; of a picture, as BMP in RGB."""
        try:
            if self.folder is None or not (path := (self.folder / name).resolve()).is_relative_to(
                self.folder.resolve()
            ):
                raise ValueError("not in the folder")
            if path.suffix.lower() == ".mtl":
                return read_bytes(path)
            picture = BytesIO()
            open_picture(Media(path=path)).save(picture, "BMP")
            return picture.getvalue()
        except (OSError, ValueError):
            self.missing.append(name)
            raise OSError(name) from None

    __getitem__ = get


def _points(parts: Any) -> np.ndarray:
    """Points on the surface of all parts of a scene; if none has faces, the vertices."""
    from trimesh.sample import sample_surface

    surfaces = [
        part for part in parts if len(getattr(part, "faces", ())) and np.isfinite(part.area) and part.area
    ]
    if not surfaces:
        found = [(np.asarray(part.vertices), _vertex_colours(part)) for part in parts if len(part.vertices)]
        if not found or any(len(getattr(part, "faces", ())) for part in parts):
            raise ValueError("it has no surface: expected vertices, or faces with an area")
    else:
        total = max(FEWEST, sum(len(part.vertices) for part in surfaces))
        areas = np.cumsum([part.area for part in surfaces])
        counts = np.diff(np.round(areas / areas[-1] * total).astype(int), prepend=0)
        found = []
        for part, count in zip(surfaces, counts, strict=True):
            image = getattr(getattr(part.visual, "material", None), "image", None)
            if getattr(part.visual, "uv", None) is not None and image is not None:
                places, _, colours = sample_surface(part, count, sample_color=True, seed=0)
                found.append((places, np.asarray(colours)[:, :3]))
                continue
            places, faces = sample_surface(part, count, seed=0)
            found.append((places, _face_colours(part, faces)))
    if all(colours is None for _, colours in found):
        return np.concatenate([places for places, _ in found])
    grey = [np.full_like(places, GREY) if colours is None else colours / 255 for places, colours in found]
    return np.concatenate([np.concatenate([one for one, _ in found]), np.concatenate(grey)], axis=1)


def _vertex_colours(part: Any) -> np.ndarray | None:
    colours = getattr(part, "colors", None)
    return None if colours is None or len(colours) != len(part.vertices) else np.asarray(colours)[:, :3]


def _face_colours(part: Any, faces: np.ndarray) -> np.ndarray | None:
    """Colours (P, 3) of points on these faces: of the material, or the mean of the vertices; None without colours."""
    material = getattr(part.visual, "material", None)
    if material is not None:
        if getattr(material, "diffuse", None) is None:
            return None
        return np.broadcast_to(np.asarray(material.main_color)[:3], (len(faces), 3))
    if not part.visual.defined:
        return None
    return np.asarray(part.visual.face_colors)[faces, :3]
