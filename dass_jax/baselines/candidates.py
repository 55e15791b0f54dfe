"""What a baseline may look at.

Dimension letters: N students.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from dass_jax.database import StudentRecord
from dass_jax.evaluation import Split
from dass_jax.untrained import Untrained, map_students


class Candidates(NamedTuple):
    """N students of one task, and all that a baseline may know of it.

    Attributes:
      students: The students with the weights that they inherit.
      image_size: Height and width of the images in pixels.
      probe: A batch of training images. Their labels are for proxies that need a loss.
      valid: Validation images.
      records: The same students measured, in the same order; only the baselines that ``MEASURING``
        names look at them.
      students_per_call: Students of one compiled call; what it holds in memory grows with them.
    """

    students: Untrained
    image_size: int
    probe: Split
    valid: Split
    records: Sequence[StudentRecord] | None = None
    students_per_call: int = 8

    def map(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Maps a function of one student over all of them, as ``untrained.map_students``.

        Args:
          function: At the top of a module, since it is compiled once for each object.
          *arguments: Arrays that all students share.

        Returns:
          The function's arrays on the host, with a leading N axis.

        Raises:
          UserError: If these students cannot inherit weights in this way.
        """
        return map_students(function, self.students, *arguments, batch_size=self.students_per_call)
