"""Frechet distance between two Gaussians, and how much each observation moves it.

The distance is ``|m1 - m2|^2 + Tr(S1 + S2 - 2 (S1 S2)^(1/2))``: Dowson and Landau, "The Frechet distance between
multivariate normal distributions", 1982; on Inception features it is FID (Heusel et al., 2017).

Its trace term is computed without a square root of a non-symmetric matrix. With factors A, B such that S1 = A^T A and
S2 = B^T B, ``Tr (S1 S2)^(1/2)`` is the nuclear norm of ``A B^T``: real by construction, exact for singular covariances,
and small when there are fewer images than features, because centred features divided by sqrt(n - 1) are such a factor.
Where there are more, only d x d matrices are left: with any root R of S1 (S1 = R R^T) the eigenvalues of ``R^T S2 R`` are
those of S1 S2, so that Cholesky's root and one symmetric eigenproblem do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from cosmop_fid_evaluator.errors import TooFewImagesError
from cosmop_fid_evaluator.moments import BLOCK, Features, Matrix, Moments


@dataclass(frozen=True)
class Distance:
    """A Frechet distance and the influence of each observation of both sets on it.

    Attributes:
        value: the distance, at least 0.
        first, second: influence functions at the observations, shapes (n1,) and (n2,), each of mean 0.
    """

    value: float
    first: Matrix
    second: Matrix

    @property
    def standard_error(self) -> float:
        """Delta-method standard error: the two sets are independent samples."""
        return float(np.sqrt(self.first.var(ddof=1) / self.first.size + self.second.var(ddof=1) / self.second.size))


def factor(features: Features) -> Matrix:
    """A with A^T A = the features' covariance (n - 1), with min(n, d) rows or fewer.

    Args:
        features: shape (n, d), n >= 2.
    """
    _require_two(features)
    x = np.asarray(features, dtype=np.float64)
    if len(x) <= x.shape[1]:
        return np.asarray((x - x.mean(axis=0)) / np.sqrt(len(x) - 1))
    return root(Moments.of(x).covariance).T


def root(covariance: Matrix) -> Matrix:
    """R with R R^T = the covariance: Cholesky's triangle, a tenth of the work of eigenvectors, which are taken where it is singular."""
    triangle = _cholesky(covariance)
    if triangle is not None:
        return triangle
    values, vectors = _eigen(covariance)
    return np.asarray(vectors * np.sqrt(values))


def trace_term(a: Matrix, b: Matrix) -> float:
    """Tr (A^T A B^T B)^(1/2) for factors of shapes (r1, d) and (r2, d): the nuclear norm of A B^T."""
    return float(linalg.svdvals(a @ b.T).sum())


def frechet_distance(first: Moments, second: Moments) -> float:
    """The distance from statistics alone: what merged shards have left.

    For d features, one symmetric eigenproblem of size d, of which only the values are needed.
    """
    left = root(first.covariance)
    cross = _trace_of_root(left.T @ second.covariance @ left)
    shift = first.mean - second.mean
    traces = (np.trace(first.scatter) / (first.count - 1)) + (np.trace(second.scatter) / (second.count - 1))
    return max(0.0, float(shift @ shift + traces - 2 * cross))


def frechet_value(first: Features, second: Features) -> float:
    """The distance between two sets of features, shapes (n1, d) and (n2, d); no influence, the fastest form at any n."""
    if min(len(first), len(second)) > first.shape[1]:
        return frechet_distance(Moments.of(first), Moments.of(second))
    a, b = factor(first), factor(second)
    shift = first.mean(axis=0, dtype=np.float64) - second.mean(axis=0, dtype=np.float64)
    return max(0.0, float(shift @ shift + (a * a).sum() + (b * b).sum() - 2 * trace_term(a, b)))


def frechet_with_influence(first: Features, second: Features) -> Distance:
    """The distance between two sets of features, and every observation's influence on it.

    The derivative by S1 is ``I - T`` with T the optimal transport map between the Gaussians, so that an observation x of
    the first set has the influence ``2 (m1 - m2).c + c^T (I - T) c - Tr((I - T) S1)`` with ``c = x - m1``.

    Args:
        first, second: shapes (n1, d) and (n2, d), at least two rows each.
    """
    for features in (first, second):
        _require_two(features)
    shift = first.mean(axis=0, dtype=np.float64) - second.mean(axis=0, dtype=np.float64)
    transport = _transport_by_eigenproblems if min(len(first), len(second)) > first.shape[1] else _transport_by_singular_values
    cross, transported_x, transported_y = transport(first, second)
    squares_x, squares_y = _quadratic(first), _quadratic(second)
    value = float(shift @ shift + squares_x.sum() / (len(first) - 1) + squares_y.sum() / (len(second) - 1) - 2 * cross)
    linear_x = np.concatenate([2 * block @ shift for block in _centred(first)])
    linear_y = np.concatenate([-2 * block @ shift for block in _centred(second)])
    return Distance(max(0.0, value), _influence(linear_x, squares_x - transported_x), _influence(linear_y, squares_y - transported_y))


def _influence(linear: Matrix, quadratic: Matrix) -> Matrix:
    # The unbiased covariance weighs each observation by n / (n - 1).
    return np.asarray(linear + (quadratic - quadratic.mean()) * quadratic.size / (quadratic.size - 1))


def _transport_by_singular_values(x: Features, y: Features) -> tuple[float, Matrix, Matrix]:
    """Trace term, and c^T T c for each centred observation c of either set, where one set has no more rows than features.

    With ``A B^T = U D V^T``, ``c_i^T T c_i`` is n - 1 times the i-th diagonal element of ``U D U^T`` where A is the centred
    features; where A is R^T with a root R of the covariance, it is ``|D^(1/2) U^T R^-1 c|^2``.
    """

    def side(features: Features) -> tuple[Matrix, Matrix | None]:
        if len(features) <= features.shape[1]:
            return factor(features), None
        right, white = _root_and_inverse(Moments.of(features).covariance)
        return right.T, white

    (a, white_x), (b, white_y) = side(x), side(y)
    u, singular, vt = linalg.svd(a @ b.T, full_matrices=False)

    def transported(features: Features, vectors: Matrix, white: Matrix | None) -> Matrix:
        if white is None:
            return np.asarray((len(features) - 1) * (vectors * vectors) @ singular)
        return _quadratic(features, white @ vectors * np.sqrt(singular))

    return float(singular.sum()), transported(x, u, white_x), transported(y, vt.T, white_y)


def _transport_by_eigenproblems(x: Features, y: Features) -> tuple[float, Matrix, Matrix]:
    """The same where both sets have more rows than features: a symmetric eigenproblem of size d.

    With a root R of S1 and ``R^T S2 R = W E W^T``: ``c^T T c = |E^(1/4) W^T R^-1 c|^2``, and the way back, whose map is T's
    inverse, ``|E^(-1/4) W^T R^T c|^2``.
    """
    left, inverse = _root_and_inverse(Moments.of(x).covariance)
    product = left.T @ Moments.of(y).covariance @ left
    energies, axes = _eigen(product)
    singular = np.sqrt(energies)
    there, back = inverse @ axes * np.sqrt(singular), left @ axes * np.sqrt(_inverse(singular))
    return _trace_of_root(product), _quadratic(x, there), _quadratic(y, back)


def _quadratic(features: Features, projection: Matrix | None = None) -> Matrix:
    """|P^T c|^2 of each centred row c; without a projection, |c|^2."""
    projected = (block if projection is None else block @ projection for block in _centred(features))
    return np.concatenate([(block * block).sum(axis=1) for block in projected])


def _centred(features: Features) -> Iterator[Matrix]:
    """The rows less their mean, a block at a time."""
    mean = features.mean(axis=0, dtype=np.float64)
    for start in range(0, len(features), BLOCK):
        yield features[start : start + BLOCK] - mean


def _trace_of_root(symmetric: Matrix) -> float:
    """Tr M^(1/2). From eigenvalues alone: the small ones that come with vectors are worse, by up to 4e-6 of a distance."""
    return float(np.sqrt(np.clip(linalg.eigvalsh(symmetric, driver="evd"), 0, None)).sum())


def _eigen(symmetric: Matrix) -> tuple[NDArray[np.float64], Matrix]:
    """Eigenvalues, at least 0, and eigenvectors of a symmetric matrix that has no negative ones but by rounding."""
    values, vectors = linalg.eigh(symmetric, driver="evd")
    return np.clip(values, 0, None), vectors


def _cholesky(covariance: Matrix) -> Matrix | None:
    """The lower triangle; None where the covariance is singular."""
    try:
        return np.asarray(linalg.cholesky(covariance, lower=True))
    except linalg.LinAlgError:
        return None


def _root_and_inverse(covariance: Matrix) -> tuple[Matrix, Matrix]:
    """A root R of a covariance, and R^-T; the pseudo-inverse's where the covariance is singular but for rounding."""
    triangle = _cholesky(covariance)
    if triangle is not None:
        reciprocal_condition, _ = linalg.lapack.dpocon(triangle, np.abs(covariance).sum(axis=0).max(), uplo="L")
        if reciprocal_condition > len(triangle) * np.finfo(np.float64).eps:
            return triangle, np.asarray(linalg.solve_triangular(triangle, np.eye(len(triangle)), lower=True).T)
    values, vectors = _eigen(covariance)
    return vectors * np.sqrt(values), vectors * _inverse(np.sqrt(values))


def _inverse(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / values; 0 for what is 0 but for rounding (the pseudo-inverse)."""
    floor = values.max(initial=0.0) * np.sqrt(values.size * np.finfo(np.float64).eps)
    return np.divide(1.0, values, out=np.zeros_like(values), where=values > floor)


def _require_two(features: Features) -> None:
    if len(features) < 2:  # noqa: PLR2004 - one vector has no spread
        raise TooFewImagesError(f"a Frechet distance of {len(features)} image is not defined: at least 2 are needed in each set")
