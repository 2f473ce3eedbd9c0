"""Finds the primes below a limit in two ways, which must agree: a script to profile."""

from __future__ import annotations  # before 3.9, a list has no types

import sys


def by_division(limit: int) -> list[int]:
    """Return the primes below a limit: the numbers that no smaller number divides."""
    primes = []
    for number in range(2, limit):
        for divisor in range(2, int(number**0.5) + 1):
            if number % divisor == 0:
                break
        else:
            primes.append(number)
    return primes


def by_sieve(limit: int) -> list[int]:
    """Return the primes below a limit: the numbers that are no multiple of a smaller prime."""
    composite = bytearray(limit)
    primes = []
    for number in range(2, limit):
        if not composite[number]:
            primes.append(number)
            for multiple in range(number * number, limit, number):
                composite[multiple] = 1
    return primes


limit = int(sys.argv[1])
if by_division(limit) != by_sieve(limit):
    sys.exit("one of them is wrong")
