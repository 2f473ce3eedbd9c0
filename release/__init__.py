"""What a release is made with: CHANGELOG.md's sections, the SBOM, and checks of both.

`nox -s dist` and .github/workflows/release.yml run it as `python -m release`; docs/releasing.md
tells a maintainer how. The wheel does not have it.
"""
