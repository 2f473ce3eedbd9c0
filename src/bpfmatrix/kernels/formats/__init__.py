"""The file formats of kernel images: how they are recognised, unpacked and read."""
