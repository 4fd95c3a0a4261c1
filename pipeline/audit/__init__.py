"""What is wrong with the labels: spellings, doubtful labels, look-alikes that differ, outliers."""
