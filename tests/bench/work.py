"""The arithmetic of each figure: million multiply-adds a sample, as a dense program does it and as is really needed.

At fixed weights the choices of ReLU and pooling are fixed, so that of a convolution's outputs only those that win their
pooling and are positive (the share f) carry a derivative: adjoints, tangents and adjoints of tangents are needed there
and are zero elsewhere.  With C1 = 0.3136, C2 = 2.5088 and L = 0.0157 (the convolutions and the linear layer, once):

    forward           C1 + C2 + L                    nothing can be left out before the choices are known
    gradient          forward + C1 f1 + 2 C2 f2 + 2 L         weights' adjoints of both, the input's of the second
    product, kept     2 C1 f1 + 6 C2 f2 + 6 L        tangent: C1 f1 + 2 C2 f2 + 2 L (the second has two, of its weights
                                                     and its input); of the adjoint: C1 f1 + 4 C2 f2 + 4 L
    product, rebuilt  forward + product, kept        with k vectors at once: forward / k + product, kept

Dense are the same with f1 = f2 = 1.  That images have zero pixels is not counted: no figure takes credit for skipping
them.  Two floating-point operations a multiply-add.
"""
from gpu_table import CONV1, CONV2, FORWARD, LINEAR

EIGHT = 8


def kept(f1, f2):
    return 2 * CONV1 * f1 + 6 * CONV2 * f2 + 6 * LINEAR


def needed(figure, f1, f2):
    """Million multiply-adds for each sample (and vector) of the figure of that name, f1 and f2 being active."""
    if figure.startswith(("forward", "landscape")):
        return FORWARD
    if figure.startswith(("gradient", "train step")):
        return FORWARD + CONV1 * f1 + 2 * CONV2 * f2 + 2 * LINEAR
    vectors = EIGHT if figure.startswith("8 ") else 1
    return kept(f1, f2) + (FORWARD / vectors if "rebuilt" in figure else 0.0)


def dense(figure):
    return needed(figure, 1.0, 1.0)


def gflops(rate, million):
    """GFLOP/s of so many samples a second."""
    return 2e6 * million * rate / 1e9
