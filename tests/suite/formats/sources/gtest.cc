// Tests that end in each way in which GoogleTest's tests end.
#include <cstdlib>

#include <gtest/gtest.h>

TEST(Maps, Passes) { EXPECT_EQ(1, 1); }

TEST(Maps, Fails) {
  printf("printed\n");
  EXPECT_EQ(1, 2) << "the number of maps";
  EXPECT_TRUE(false);
}

TEST(Maps, Skipped) { GTEST_SKIP() << "needs 5.17"; }

TEST(Maps, DISABLED_Later) {}

class Odd : public testing::TestWithParam<int> {};
TEST_P(Odd, Is) { ASSERT_EQ(GetParam() % 2, 1) << "line one\nline two"; }
INSTANTIATE_TEST_SUITE_P(Some, Odd, testing::Values(1, 2));

TEST(Dies, Here) {
  if (getenv("DIE")) abort();
}

TEST(Dies, Later) {}
