"""Image files in a folder or archive, as a reader of examples."""

import contextlib
from collections.abc import Iterator

from etils import epath

from dass_jax.data.archives import Archive, open_archive
from dass_jax.data.decoding import decode_image, decode_in_parallel
from dass_jax.data.layouts import ClassFiles, FilesByClass, list_class_files
from dass_jax.data.readers import Example, PartReader, Reader


@contextlib.contextmanager
def open_image_files(path: epath.Path) -> Iterator[Reader]:
    """Opens a folder or archive of image files in any known layout.

    Raises:
      UserError: it is damaged, arranged in no known way, or incomplete.
    """
    with open_archive(path) as archive:
        yield _reader(archive, list_class_files(archive))


def _reader(archive: Archive, files: ClassFiles) -> Reader:
    def part(by_class: FilesByClass) -> PartReader:
        labels = files.labels(by_class)
        rows = {name: row for row, name in enumerate(labels)}

        def read(image_size: int) -> Iterator[Example]:
            def decode(name: str) -> Example:
                what = f"image {name} in {archive.path}"
                pixels = decode_image(archive.read(name), image_size, what)
                return Example(rows[name], labels[name], pixels)

            return decode_in_parallel(archive.in_reading_order(labels), decode)

        return PartReader(len(labels), read)

    return Reader(files.class_names, {name: part(split) for name, split in files.splits.items()})
