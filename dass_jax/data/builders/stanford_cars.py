"""Stanford Cars: photographs of 196 models of cars."""

from dass_jax.data.builders.release import Release, open_image_archives
from dass_jax.data.downloads import RemoteFile

_ROOT = "http://ai.stanford.edu/~jkrause/car196"
# The university took its copy down in 2023 (github.com/pytorch/vision/issues/7545).
_HINT = (
    "the university's server no longer has it; copies are on Kaggle, such as "
    "rickyyyyyyy/torchvision-stanford-cars"
)


def _file(name: str, md5: str) -> RemoteFile:
    return RemoteFile(name, f"{_ROOT}/{name}", md5, hint=_HINT)


RELEASE = Release(
    name="stanford_cars",
    version="1.0.0",
    description="196 models of cars, 8144 training and 8041 test photographs.",
    homepage="https://ai.stanford.edu/~jkrause/cars/car_dataset.html",
    citation=(
        "@inproceedings{krause20133d, title={3D Object Representations for Fine-Grained "
        "Categorization}, author={Krause, Jonathan and Stark, Michael and Deng, Jia and "
        "Fei-Fei, Li}, booktitle={4th International IEEE Workshop on 3D Representation and "
        "Recognition}, year={2013}}"
    ),
    files=(
        (
            _file("car_ims.tgz", "d5c8f0aa497503f355e17dc7886c3f14"),
            _file("cars_annos.mat", "b407c6086d669747186bd1d764ff9dbc"),
        ),
        (
            _file("cars_train.tgz", "065e5b463ae28d29e77c1b4b166cfe61"),
            _file("cars_test.tgz", "4ce7ebf6a94d07f1952d94dd34c4d501"),
            _file("car_devkit.tgz", "c3b158d763b6e2245038c8ad08e45376"),
            _file("cars_test_annos_withlabels.mat", "b0a2b23655a3edd16d84508592a98d10"),
        ),
    ),
    open=open_image_archives,
)
