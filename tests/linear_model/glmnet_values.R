# Values that glmnet finds, for tests/linear_model/test_agreement.py:
#     Rscript tests/linear_model/glmnet_values.R > tests/linear_model/glmnet_values.json
library(glmnet)
library(jsonlite)

X <- as.matrix(iris[, 1:4])
species <- iris$Species
weight <- rep(c(1, 2, 0.5), 50)
two <- factor(species == "virginica")

multinomial <- function(alpha, lambda, type, weights = rep(1, 150)) {
  fit <- glmnet(X, species, family = "multinomial", alpha = alpha, lambda = lambda, type.multinomial = type,
                standardize = FALSE, thresh = 1e-14, maxit = 1e7, weights = weights)
  parts <- coef(fit)
  list(alpha = alpha, lambda = lambda, type = type, weighted = !all(weights == 1),
       coef = t(sapply(parts, function(part) as.matrix(part)[2:5, 1])),
       prob = predict(fit, X[c(1, 60, 71, 84, 107, 150), ], type = "response")[, , 1])
}
binomial <- function(alpha, lambda) {
  fit <- glmnet(X, two, family = "binomial", alpha = alpha, lambda = lambda, standardize = FALSE, thresh = 1e-14,
                maxit = 1e7)
  list(alpha = alpha, lambda = lambda, coef = as.matrix(coef(fit))[2:5, 1], intercept = as.matrix(coef(fit))[1, 1])
}
cat(toJSON(list(
  versions = list(R = as.character(getRversion()), glmnet = as.character(packageVersion("glmnet"))),
  multinomial = list(
    multinomial(1, 0.05, "ungrouped"), multinomial(1, 0.005, "ungrouped"), multinomial(0.5, 0.02, "ungrouped"),
    multinomial(1, 0.05, "grouped"), multinomial(1, 0.01, "grouped"), multinomial(0.5, 0.03, "grouped"),
    multinomial(0, 0.01, "ungrouped"), multinomial(0.5, 0.02, "ungrouped", weight)
  ),
  binomial = list(binomial(0, 0.01), binomial(1, 0.02), binomial(0.5, 0.01))
), digits = 12, auto_unbox = TRUE, pretty = TRUE))
