"""Films: reading, painting steadily, and writing them. Needs PyAV and OpenCV (extra `video`)."""
