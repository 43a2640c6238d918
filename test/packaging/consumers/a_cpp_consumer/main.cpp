#include <cstdio>

#include "evitif_msgs/msg/prediction.hpp"
#include "rosidl_typesupport_cpp/message_type_support.hpp"

int main()
{
  using evitif_msgs::msg::Prediction;
  Prediction prediction;
  prediction.robot = "rover";
  prediction.class_ids = {134, 517};
  if (rosidl_typesupport_cpp::get_message_type_support_handle<Prediction>() == nullptr) {
    return 1;
  }
  std::printf("classes %d, %d of %s\n", prediction.class_ids[0], prediction.class_ids[1], prediction.robot.c_str());
  return 0;
}
