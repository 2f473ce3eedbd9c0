"""What a guest is made of before its payload: init, busybox, programs in C, kernel modules."""
