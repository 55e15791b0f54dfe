"""Tiny-ImageNet: 200 classes of ImageNet at 64x64; its ``val`` serves as the test split."""

from dass_jax.data.builders.release import Release, open_image_archives
from dass_jax.data.downloads import RemoteFile

RELEASE = Release(
    name="tiny_imagenet",
    version="1.0.0",
    description="200 classes of ImageNet, 500 training and 50 test images each, 64x64 pixels.",
    homepage="https://cs231n.stanford.edu/reports/2015/pdfs/yle_project.pdf",
    citation=(
        "@misc{le2015tiny, title={Tiny ImageNet Visual Recognition Challenge}, "
        "author={Le, Ya and Yang, Xuan}, year={2015}, note={CS 231N, Stanford University}}"
    ),
    files=(
        (
            RemoteFile(
                "tiny-imagenet-200.zip",
                "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
                md5="90528d7ca1a48142e341f4ef8d21d0de",
            ),
        ),
    ),
    open=open_image_archives,
)
