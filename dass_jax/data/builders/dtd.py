"""DTD, describable textures: 47 classes, ten numbered splits."""

import functools

from dass_jax.data.archives import Archive
from dass_jax.data.builders.release import Release, open_image_archives
from dass_jax.data.downloads import RemoteFile
from dass_jax.data.layouts import (
    DTD_MARKER,
    ClassFiles,
    find_root,
    list_class_files,
    list_dtd,
)
from dass_jax.errors import UserError

_FOLDS = range(1, 11)


def _list_fold(archive: Archive, config: str) -> ClassFiles:
    root = find_root(archive, DTD_MARKER)
    if root is not None:
        return list_dtd(archive, root, fold=int(config.removeprefix("split")))
    # Textures that somebody has arranged otherwise, with one split of their own.
    if config != RELEASE.configs[0]:
        raise UserError(
            f"{archive.path} has no labels/train1.txt and so no numbered splits; prepare "
            f"{RELEASE.name} without one, or from the official archive"
        )
    return list_class_files(archive)


RELEASE = Release(
    name="dtd",
    version="1.0.0",
    description="47 classes of textures, 80 training and 40 test images each, in ten splits.",
    homepage="https://www.robots.ox.ac.uk/~vgg/data/dtd/",
    citation=(
        "@inproceedings{cimpoi2014describing, title={Describing Textures in the Wild}, "
        "author={Cimpoi, Mircea and Maji, Subhransu and Kokkinos, Iasonas and Mohamed, Sammy and "
        "Vedaldi, Andrea}, booktitle={CVPR}, year={2014}}"
    ),
    files=(
        (
            RemoteFile(
                "dtd-r1.0.1.tar.gz",
                "https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz",
                md5="fff73e5086ae6bdbea199a49dfb8a4c1",
            ),
        ),
    ),
    open=functools.partial(open_image_archives, list_files=_list_fold),
    configs=tuple(f"split{fold}" for fold in _FOLDS),
)
