#!/usr/bin/python3
"""Draw the results of a study: plot.py RESULTS [--data FOLDER] [--output FOLDER].

One PNG a figure in RESULTS/figures: samples of the data, training curves, confusion matrix, eigenvalues, spectral
density and cumulative measure, loss along lines and over a plane.  A figure whose file is not there is left out, and
said.  Needs h5py, numpy and matplotlib.
"""
import argparse
import gzip
import os
import struct
import sys
from pathlib import Path

try:
    import h5py
    import matplotlib
    import numpy as np
except ImportError as missing:
    sys.exit(f"plot.py: error: {missing.name} is missing; install python3-{missing.name} or take another Python")

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402 (the backend must be chosen first)


class Absent(Exception):
    """A figure that cannot be drawn, with the reason."""


def open_results(folder, name):
    path = folder / name
    if not path.exists():
        raise Absent(f"{name} is not there")
    try:
        return h5py.File(path, "r")
    except OSError as failure:
        raise Absent(f"{name} cannot be read: {failure}") from None


def attribute(file, name):
    value = file.attrs.get(name, "")
    return value.decode() if isinstance(value, bytes) else str(value)


def subject(file):
    """The operator that the file tells of, and its block, in words."""
    names = {"hessian": "the Hessian", "gauss-newton": "the Gauss-Newton matrix"}
    name, layers = attribute(file, "operator") or "hessian", attribute(file, "hessian_layers") or "all"
    words = names.get(name, name)
    return words if layers == "all" else f"{words}, block {layers}"


def label(dataset, words):
    """An axis label with the unit that the file gives."""
    unit = dataset.attrs.get("units", "1")
    unit = unit.decode() if isinstance(unit, bytes) else str(unit)
    return words if unit in ("1", "") else f"{words} ({unit})"


def read_idx(folder, name):
    """An IDX file of bytes, plain or gzip, as an array."""
    for path, opener in ((folder / name, open), (folder / (name + ".gz"), gzip.open)):
        if path.exists():
            with opener(path, "rb") as file:
                content = file.read()
            dims = content[3]
            shape = struct.unpack(f">{dims}I", content[4:4 + 4 * dims])
            return np.frombuffer(content, np.uint8, offset=4 + 4 * dims).reshape(shape)
    raise Absent(f"{folder} holds no {name}")


def draw_samples(results, data, figure):
    """The first 25 training images with their labels."""
    files = sorted(results.glob("*.h5"))
    if not files:
        raise Absent("there are no results")
    with open_results(results, files[0].name) as file:
        if "generated" in attribute(file, "data_source"):
            raise Absent("the study used generated digits, which are in no file")
    images = read_idx(data, "train-images-idx3-ubyte")
    labels = read_idx(data, "train-labels-idx1-ubyte")
    axes = figure.subplots(5, 5).ravel()
    for place, image, number in zip(axes, images, labels):
        place.imshow(image, cmap="gray_r")
        place.set_title(str(number), fontsize=9)
    for place in axes:
        place.axis("off")


def draw_training(results, _data, figure):
    """Loss of the batches and of the test set, and test accuracy."""
    with open_results(results, "train.h5") as file:
        left, right = figure.subplots(1, 2)
        loss = file["/train/loss"]
        left.plot(file["/train/step"][()], loss[()], lw=0.6, alpha=0.6, label="training batch")
        left.set(xlabel="step", ylabel=label(loss, "loss"), yscale="log", title="loss")
        if "test/step" in file and len(file["/test/step"]):
            left.plot(file["/test/step"][()], file["/test/loss"][()], "o-", label="test set")
            right.plot(file["/test/step"][()], file["/test/accuracy"][()], "o-")
        left.legend()
        right.set(xlabel="step", ylabel="accuracy", title="accuracy on the test set")


def draw_curvature(results, _data, figure):
    """Largest eigenvalues along the training beside 2 / lr, and the share of the gradient along their eigenvectors."""
    with open_results(results, "train.h5") as file:
        if "curvature" not in file:
            raise Absent("train.curvature_every was 0")
        left, right = figure.subplots(1, 2)
        step, values = file["/curvature/step"][()], file["/curvature/eigenvalues"]
        for number, column in enumerate(values[()].T, 1):
            left.plot(step, column, "o-", ms=3, label=f"eigenvalue {number}")
        left.plot(step, file["/curvature/two_over_lr"][()], "k--", label="2 / learning rate")
        left.set(xlabel="step", ylabel=label(values, "eigenvalue"), yscale="symlog", title="sharpness")
        left.legend()
        right.plot(step, file["/curvature/gradient_share"][()], "o-", ms=3)
        right.set(xlabel="step", ylabel="share of the squared gradient", ylim=(0, 1),
                  title="gradient in the top subspace")


def draw_confusion(results, _data, figure):
    """Rows: the true class; columns: the class predicted."""
    with open_results(results, "evaluate.h5") as file:
        confusion = file["/confusion"][()]
        axes = figure.subplots()
        axes.imshow(np.log1p(confusion), cmap="Blues")
        for row, column in np.argwhere(confusion > 0):
            dark = np.log1p(confusion[row, column]) > 0.6 * np.log1p(confusion.max())
            axes.text(column, row, str(confusion[row, column]), ha="center", va="center", fontsize=7,
                      color="white" if dark else "black")
        classes = np.arange(len(confusion))
        axes.set(xlabel="predicted", ylabel="label", xticks=classes, yticks=classes,
                 title=f"test set: accuracy {float(file['/accuracy'][()]):.4f}, loss {float(file['/loss'][()]):.4f}")


def draw_eigenvalues(results, _data, figure):
    """Eigenvalues with their residuals as bars; open circles did not converge."""
    with open_results(results, "eigen.h5") as file:
        values, residuals = file["/eigenvalues"][()], file["/residuals"][()]
        converged = file["/converged"][()].astype(bool)
        axes = figure.subplots()
        place = np.arange(1, len(values) + 1)
        axes.errorbar(place, values, yerr=residuals, fmt="none", ecolor="gray", capsize=3)
        axes.plot(place[converged], values[converged], "o", label="converged")
        if not converged.all():
            axes.plot(place[~converged], values[~converged], "o", mfc="none", label="not converged")
        axes.axhline(0.0, color="gray", lw=0.5)
        axes.set(xlabel="number", ylabel=label(file["/eigenvalues"], "eigenvalue"), xticks=place,
                 title=f"eigenvalues of {subject(file)}")
        axes.legend()


def deflated(file):
    """The eigenvalues that stand in the measure exactly."""
    return file["/deflated/values"][()] if "deflated" in file else np.array([])


def draw_density(results, _data, figure):
    """Both densities with their error bands on a logarithmic scale: the seed's over the mean range, for reference, and
    the one over the whole range, whose mass is the analytic one."""
    with open_results(results, "density.h5") as file:
        upper, lower = figure.subplots(2, 1)
        for axes, group, title in ((upper, "", "range: mean of the runs' extremes; mass: sum over the grid"),
                                   (lower, "/full", "range: all runs' extremes; mass: analytic")):
            grid, density = file[f"{group}/grid"][()], file[f"{group}/density"][()]
            floor = density.max() * 1e-9  # below it the Gaussians are numerically zero
            axes.semilogy(grid, np.maximum(density, floor), lw=0.8)
            if f"{group}/density_stderr" in file:
                error = file[f"{group}/density_stderr"][()]
                axes.fill_between(grid, np.maximum(density - error, floor), np.maximum(density + error, floor),
                                  alpha=0.3, label="standard error over the probes")
            atoms = deflated(file)
            if len(atoms):
                axes.plot(atoms, np.full(len(atoms), floor), "k|", ms=12, label="eigenvalues deflated")
            if axes.get_legend_handles_labels()[1]:
                axes.legend(fontsize=8)
            margin = 0.02 * (grid[-1] - grid[0])
            axes.set(xlim=(grid[0] - margin, grid[-1] + margin), ylim=(floor, density.max() * 3),
                     xlabel=label(file[f"{group}/grid"], "eigenvalue"), ylabel="density", title=title)


def draw_cumulative(results, _data, figure):
    """The share of the eigenvalues up to each place, not blurred, with its error band."""
    with open_results(results, "density.h5") as file:
        if "cumulative" not in file:
            raise Absent("density.h5 holds no cumulative measure")
        values, measure = file["/cumulative/eigenvalue"], file["/cumulative/measure"][()]
        place = values[()]
        last = np.append(place[1:] != place[:-1], True)  # of equal eigenvalues the last counts
        place, measure = place[last], measure[last]
        axes = figure.subplots()
        axes.step(place, measure, where="post", lw=0.9)
        if "measure_stderr" in file["cumulative"]:
            error = file["/cumulative/measure_stderr"][()][last]
            axes.fill_between(place, np.clip(measure - error, 0, 1), np.clip(measure + error, 0, 1), step="post",
                              alpha=0.3, label="standard error over the probes")
        atoms = deflated(file)
        if len(atoms):
            axes.plot(atoms, np.zeros(len(atoms)), "k|", ms=12, label="eigenvalues deflated")
        if axes.get_legend_handles_labels()[1]:
            axes.legend(fontsize=8)
        largest = np.abs(place).max()
        axes.set_xscale("symlog", linthresh=1e-4 * largest if largest > 0 else 1.0)
        axes.set(ylim=(-0.02, 1.02), xlabel=label(values, "eigenvalue"), ylabel="share of the spectrum",
                 title=f"cumulative spectral measure of {subject(file)}")


def draw_lines(results, _data, figure):
    """Loss and accuracy along every direction of landscape.h5."""
    with open_results(results, "landscape.h5") as file:
        names = [name for name in file if name != "plane" and "alpha" in file[name]]
        if not names:
            raise Absent("landscape.h5 holds no lines")
        left, right = figure.subplots(1, 2)
        for name in names:
            left.plot(file[name]["alpha"][()], file[name]["loss"][()], ".-", label=name)
            right.plot(file[name]["alpha"][()], file[name]["accuracy"][()], ".-", label=name)
        left.set(xlabel="distance along the unit direction", ylabel=label(file[names[0]]["loss"], "loss"), title="loss")
        right.set(xlabel="distance along the unit direction", ylabel="accuracy", title="accuracy")
        left.legend()


def draw_plane(results, _data, figure):
    """Contours of the loss over the plane."""
    with open_results(results, "landscape.h5") as file:
        if "plane" not in file:
            raise Absent("landscape.h5 holds no plane (landscape.plane asks for one)")
        x, y, loss = (file[f"/plane/{name}"][()] for name in ("x", "y", "loss"))
        axes = figure.subplots()
        filled = axes.contourf(x, y, loss, levels=30, cmap="viridis")
        axes.contour(x, y, loss, levels=12, colors="white", linewidths=0.4)
        axes.plot(0.0, 0.0, "r+")
        figure.colorbar(filled, label=label(file["/plane/loss"], "loss"))
        axes.set(xlabel="along the first direction", ylabel="along the second direction", aspect="equal",
                 title="loss over the plane; + the studied weights")


FIGURES = {  # name of the PNG: (what draws it, inches)
    "samples": (draw_samples, (6, 6.5)),
    "training": (draw_training, (11, 4)),
    "confusion": (draw_confusion, (6, 6)),
    "curvature": (draw_curvature, (10, 4)),
    "eigenvalues": (draw_eigenvalues, (6, 4)),
    "density": (draw_density, (9, 7)),
    "cumulative": (draw_cumulative, (9, 4)),
    "landscape-lines": (draw_lines, (11, 4)),
    "landscape-plane": (draw_plane, (7, 6)),
}


def draw_all(results, data, output):
    """Draw what can be drawn; returns the number of figures."""
    drawn = 0
    for name, (draw, inches) in FIGURES.items():
        figure = plt.figure(figsize=inches, layout="constrained")
        try:
            draw(results, data, figure)
            output.mkdir(parents=True, exist_ok=True)
            figure.savefig(output / f"{name}.png", dpi=130)
            print(output / f"{name}.png")
            drawn += 1
        except Absent as reason:
            print(f"{name}: left out: {reason}")
        finally:
            plt.close(figure)
    return drawn


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="the folder that run.output named")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("HSGD_DATA") or "data/mnist"),
                        help="folder of the images (default: $HSGD_DATA, then data/mnist)")
    parser.add_argument("-o", "--output", type=Path, help="folder for the figures (default: RESULTS/figures)")
    words = parser.parse_args()
    if not words.results.is_dir():
        sys.exit(f"plot.py: error: {words.results}: no such folder; name the folder of run.output")
    try:
        drawn = draw_all(words.results, words.data, words.output or words.results / "figures")
    except (KeyError, OSError) as failure:
        sys.exit(f"plot.py: error: {words.results}: {failure}")
    if drawn == 0:
        sys.exit(f"plot.py: error: {words.results} holds no results; name the folder of run.output")


if __name__ == "__main__":
    main()
