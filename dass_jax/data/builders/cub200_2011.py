"""CUB-200-2011: photographs of 200 species of birds."""

from dass_jax.data.builders.release import Release, open_image_archives
from dass_jax.data.downloads import RemoteFile

RELEASE = Release(
    name="cub200_2011",
    version="1.0.0",
    description="200 species of birds, 5994 training and 5794 test photographs.",
    homepage="https://data.caltech.edu/records/65de6-vp158",
    citation=(
        "@techreport{wah2011caltech, title={The Caltech-UCSD Birds-200-2011 Dataset}, "
        "author={Wah, Catherine and Branson, Steve and Welinder, Peter and Perona, Pietro and "
        "Belongie, Serge}, year={2011}, institution={California Institute of Technology}, "
        "number={CNS-TR-2011-001}}"
    ),
    files=(
        (
            RemoteFile(
                "CUB_200_2011.tgz",
                "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
                md5="97eceeb196236b17998738112f37df78",
            ),
        ),
    ),
    open=open_image_archives,
)
