"""Guesses the type of an unsupported file from its first bytes or its suffix, for error messages."""

from pathlib import Path

STARTS: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"\x89PNG\r\n", "a PNG picture"),
    (b"GIF8", "a GIF picture"),
    (b"BM", "a BMP picture"),
    (b"II*\0", "a TIFF picture"),
    (b"MM\0*", "a TIFF picture"),
    (b"%!PS", "a PostScript file"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript file"),
    (b"%PDF", "a PDF file"),
    (b"8BPS", "a Photoshop file"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (b"\0\0\1\0", "an icon"),
    (b"v/1\1", "an OpenEXR picture"),
    (b"#?RADIANCE", "a Radiance HDR picture"),
    (b"<svg", "an SVG drawing"),
    (b"<!doctype html", "a web page"),
    (b"<html", "a web page"),
    (b"<?xml", "an XML file"),
    (b"version https://git-lfs", "a pointer of Git LFS; fetch the file itself with `git lfs pull`"),
    (b"ply", "a PLY cloud"),
    (b"\x93NUMPY", "a numpy array (.npy)"),
    (b"# .PCD", "a PCD cloud"),
    (b"LASF", "a LAS or LAZ cloud"),
    (b"ASTM-E57", "an E57 cloud"),
    (b"glTF", "a glTF model"),
    (b"Kaydara FBX", "an FBX model"),
    (b"solid", "an STL model"),
    (b"OFF", "an OFF model"),
    (b"# vtk", "a VTK file"),
    (b"PK\3\4", "a zip archive, as .npz and PyTorch's files are"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x80\2", "a pickle"),
    (b"\x80\3", "a pickle"),
    (b"\x80\4", "a pickle"),
    (b"\x80\5", "a pickle"),
)
"""Magic bytes and descriptions; textual ones are lower-case and match in any case."""

SUFFIXES = {
    ".obj": "an OBJ model",
    ".pcd": "a PCD cloud",
    ".xyz": "a list of points in text",
    ".xyzrgb": "a list of points in text",
    ".pts": "a list of points in text",
    ".ptx": "a list of points in text",
    ".txt": "a text",
    ".csv": "a table in text",
    ".asc": "a list of points in text",
    ".bin": "raw numbers without a header",
    ".stl": "an STL model",
    ".off": "an OFF model",
    ".las": "a LAS or LAZ cloud",
    ".laz": "a LAS or LAZ cloud",
    ".e57": "an E57 cloud",
    ".gltf": "a glTF model",
    ".glb": "a glTF model",
    ".fbx": "an FBX model",
    ".usdz": "a USD model",
    ".splat": "Gaussian splats",
    ".mp4": "a video",
    ".heic": "a HEIC picture",
}
"""Descriptions by suffix, for formats without magic bytes."""

LONGEST = 64
"""How many bytes of a file are needed to recognize it."""


def kind_of(path: Path, start: bytes) -> str:
    """Describes the likely type of a file by its first bytes and its name.

    >>> kind_of(Path("scan.ply"), b"# .PCD v0.7")
    'a PCD cloud'
    >>> kind_of(Path("scan.obj"), b"v 0 0 0")
    'an OBJ model'
    """
    if not start:
        return "an empty file"
    if start[:4] == b"RIFF":
        return "a WebP picture" if start[8:12] == b"WEBP" else "a sound or a video"
    if start[4:8] == b"ftyp":
        brand = start[8:12]
        names = {b"avif": "an AVIF picture", b"avis": "an AVIF picture", b"heic": "a HEIC picture"}
        return names.get(brand, "a HEIC picture" if brand in (b"mif1", b"heix", b"msf1") else "a video")
    lower = start.lower().lstrip()
    for begin, words in STARTS:
        if start.startswith(begin) or (begin.isascii() and lower.startswith(begin)):
            return words
    return SUFFIXES.get(path.suffix.lower(), "something else")
